from __future__ import annotations

import math

import pytest

from trsr.report import wording


@pytest.mark.parametrize(
    ("value", "text"), [(0.0494, "4.9%"), (0.0496, "5%"), (0.005, "0.5%"), (0.999, "100%"), (math.nan, "–")]
)
def test_percent(value: float, text: str) -> None:
    assert wording.percent(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0.00 s"), (59.99, "60.0 s"), (60, "1 min 0 s"), (3600, "1 h 0 min")]
)
def test_duration(seconds: float, text: str) -> None:
    assert wording.duration(seconds) == text


def test_names_of_unknown_systems_and_splits_are_kept() -> None:
    assert wording.system_name("BM25") == wording.inside("BM25") == "BM25"
    assert wording.split_name("holdout") == "holdout"
