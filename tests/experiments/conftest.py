"""One finished comparison, with its page, for all tests that only look at it."""

import json
from pathlib import Path

import pytest
from small_comparison import Finished, comparison_config

from small_run import MadeOnce
from trsr.experiments.compare import compare
from trsr.experiments.report import Published


@pytest.fixture(scope="session")
def finished(made_once: MadeOnce) -> Finished:
    def make(folder: Path) -> None:
        said: list[str] = []
        compare(comparison_config(folder), say=said.append)
        folder.with_name("said.json").write_text(json.dumps(said), encoding="utf-8")

    folder = made_once("comparison", make)
    said = json.loads(folder.with_name("said.json").read_text(encoding="utf-8"))
    return Finished(comparison_config(folder), Published.of(folder / "comparison"), said)


@pytest.fixture
def unwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the pages of comparisons and ablations empty: they take long to make."""
    for module in ("ablate", "report"):
        monkeypatch.setattr(f"trsr.experiments.{module}.render", lambda content: "")
