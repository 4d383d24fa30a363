"""The benchmark of summaries runs, and all its ways write the same summaries."""

from __future__ import annotations

import logging
import sys

import pytest
import summaries


def test_quick_run_finds_all_ways_alike(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["summaries.py", "--quick"])
    try:
        summaries.main()
    finally:
        logging.getLogger("trsr").setLevel(logging.NOTSET)
    compared = [line for line in capsys.readouterr().out.splitlines() if line.endswith("alike")]
    # Three users of five blocks; the last line is the way that the others are compared with.
    assert [line.rpartition(", ")[2] for line in compared] == ["15 of 15 alike"] * 4
    assert compared[-1].startswith("one call at a time: 1.0x")
