"""The benchmark for a GPU runs on any device, and its two ways say the same."""

from __future__ import annotations

import re
import sys

import gpu
import pytest


def test_quick_run_finds_both_ways_alike(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--quick", "--device", "cpu"])
    gpu.main()
    told = capsys.readouterr().out
    float32, bfloat16 = (float(error) for error in re.findall(r"margins differ by (\S+) of", told))
    assert float32 < 1e-5 < bfloat16 < 0.1
    assert "LoRA step" in told
