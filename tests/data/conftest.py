"""Places of the real data sets, and a writer of small files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from trsr.data.dataset import Dataset
from trsr.records import ITEMS, USER, Finding


@pytest.fixture
def write(tmp_path: Path) -> Callable[[Mapping[str, str | bytes]], Path]:
    """Write files (name to content) into a fresh folder, and give the folder."""

    def write_files(files: Mapping[str, str | bytes]) -> Path:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            (tmp_path / name).write_bytes(data)
        return tmp_path

    return write_files


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """Give the folder of a real data set, or skip the test."""

    def folder_of(name: str) -> Path:
        root = Path(__file__).parents[2]
        folder = Path(os.environ.get("TRSR_DATA", root.parent / "shared" / "data")) / name
        if not folder.is_dir():
            pytest.skip(f"real data set {name} is not here")
        return folder

    return folder_of


@pytest.fixture
def histories_of() -> Callable[[Dataset], dict[str, list[str]]]:
    """Give a data set's histories as a dictionary."""
    return lambda dataset: dict(dataset.histories.select(USER, ITEMS).iter_rows())


@pytest.fixture
def counts_of() -> Callable[[tuple[Finding, ...]], dict[str, int]]:
    """Give the count per rule."""

    def counts(findings: tuple[Finding, ...]) -> dict[str, int]:
        totals: dict[str, int] = {}
        for finding in findings:
            totals[finding.rule] = totals.get(finding.rule, 0) + finding.count
        return totals

    return counts
