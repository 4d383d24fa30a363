"""The benchmark of preparation runs, scales by hand-made figures, and writes between its own marks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import preparation
import pytest
from sections import marks, write_section

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_quick_run_measures_both_ways() -> None:
    command = [sys.executable, str(BENCHMARKS / "preparation.py"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    row = json.loads(done.stdout)
    assert (row["sessions"], row["products"]) == (2000, 1000)
    assert 0 < row["ours"]["cpu_s"] < row["scan"]["cpu_s"]


def test_the_scan_is_scaled_by_what_each_session_adds(monkeypatch: pytest.MonkeyPatch) -> None:
    # 2 s to begin and 0.1 s a session.
    monkeypatch.setattr(
        preparation,
        "in_process",
        lambda _way, _folder, sessions: preparation.Spent(2 + 0.1 * sessions, 4 + 0.2 * sessions, 7),
    )
    spent = preparation.scan_all(Path(), 1_000_000)
    assert spent.wall_s == pytest.approx(100_002)
    assert spent.cpu_s == pytest.approx(200_004)
    assert spent.memory_mb == 7


def test_a_section_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    begin, end = marks("speed")
    page.write_text(f"Before.\n{begin}\nold\n{end}\nAfter.\n")
    write_section(page, "speed", "new")
    write_section(page, "speed", "newer")
    assert page.read_text() == f"Before.\n{begin}\n\nnewer\n\n{end}\nAfter.\n"
