"""The benchmark of summaries runs, and all its ways write the same summaries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "summaries.py"


def test_quick_run_finds_all_ways_alike() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--quick"], capture_output=True, text=True, check=True, timeout=250
    )
    compared = [line for line in done.stdout.splitlines() if line.endswith("alike")]
    # Three users of five blocks; the last line is the way that the others are compared with.
    assert [line.rpartition(", ")[2] for line in compared] == ["15 of 15 alike"] * 4
    assert compared[-1].startswith("one call at a time: 1.0x")
