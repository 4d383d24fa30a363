from __future__ import annotations

import pytest
from made_comparison import made_comparison
from made_run import OWN, full_content, results_of

from small_run import MadeOnce
from trsr.report.page import RunContent, render
from trsr.report.results import Results


@pytest.fixture(scope="module", autouse=True)
def drawing() -> None:
    """Draw: these tests look at what is drawn."""


@pytest.fixture(scope="session")
def content() -> RunContent:
    return full_content()


@pytest.fixture(scope="session")
def bare() -> RunContent:
    """A run of paradigm none that was neither trained nor looked at."""
    return RunContent(results_of({OWN: 0.5, "random": 0.14}, name="bare"))


@pytest.fixture(scope="session")
def comparison() -> Results:
    return made_comparison()


@pytest.fixture(scope="session")
def comparison_page(comparison: Results, made_once: MadeOnce) -> str:
    page = made_once("page", lambda path: path.write_bytes(render(comparison).encode()))
    return page.read_bytes().decode()
