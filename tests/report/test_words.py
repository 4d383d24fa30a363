from __future__ import annotations

import math

import pytest

from trsr.report import words


@pytest.mark.parametrize(
    ("value", "text"), [(0.0494, "4.9%"), (0.0496, "5%"), (0.005, "0.5%"), (0.999, "100%"), (math.nan, "–")]
)
def test_percent(value: float, text: str) -> None:
    assert words.percent(value) == text


def test_names_of_unknown_systems_and_splits_are_kept() -> None:
    assert words.system_name("BM25") == "BM25"
    assert words.split_name("holdout") == "holdout"


def test_what_is_not_known_is_a_dash() -> None:
    assert {words.decimal(None), words.percent(None), words.p_value(None), words.amount(None)} == {"–"}
    assert words.signed(math.nan) == "–"


@pytest.mark.parametrize(
    ("domain", "sampler", "expected"),
    [
        ("news", "uniform", "21 articles were put in order: the one that the user read next"),
        ("video", "uniform", "20 others drawn evenly from the catalogue of 800 videos."),
        ("generic", "popularity", "from the catalogue of 800 items in proportion to how popular they are."),
        ("generic", "my-own", "from the catalogue of 800 items by another rule."),
    ],
)
def test_the_task_is_told_in_the_domain_s_words(domain: str, sampler: str, expected: str) -> None:
    told = words.task(domain, 800, sampler, 20, "test", 207)
    assert told.startswith("For each of 207 test users, ")
    assert expected in told
