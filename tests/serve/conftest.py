"""One service that most tests ask; those that change its users take users of their own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Served, served

from trsr.artifacts import RunFolder
from trsr.config import Config


@pytest.fixture(scope="session")
def service(
    fused_run: tuple[Config, RunFolder], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A service of a run with a fused ranker."""
    path = Path(shutil.copytree(fused_run[1].path, tmp_path_factory.mktemp("service") / "run"))
    with served(path) as running:
        yield running
