from __future__ import annotations

import math
from typing import Any

import pytest

from trsr.errors import ArtifactError
from trsr.report.measures import Interval, Verdict, boards, overall


def metrics(**splits: float) -> dict[str, Any]:
    def entry(mean: float) -> dict[str, Any]:
        value = {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}
        return {
            "users": 9,
            "tie_rate": 0.0,
            "metrics": {"NDCG@10": value, "Recall@10": value, "NDCG@3": value},
        }

    own = {split: entry(mean) for split, mean in splits.items()}
    return {"sampler": "uniform", "negatives": 20, "systems": {"random": {"test": entry(0.1)}, "lm": own}}


def test_the_test_split_and_the_language_model_come_first() -> None:
    found = boards(metrics(valid=0.4, test=0.5), "lm")
    assert [board.split for board in found] == ["test", "valid"]
    assert [row.system for row in found[0].rows] == ["lm", "random"]
    assert [row.system for row in found[1].rows] == ["lm"]
    assert found[0].own is not None
    assert [row.system for row in found[0].floor] == ["random"]


def test_measures_are_grouped_by_family_in_one_order_and_rise_in_k() -> None:
    assert boards(metrics(test=0.5), "lm")[0].names == ("Recall@10", "NDCG@3", "NDCG@10")


def test_best_ignores_what_could_not_be_computed() -> None:
    raw = metrics(test=0.5)
    raw["systems"]["lm"]["test"]["metrics"]["NDCG@3"] = {"mean": None, "low": None, "high": None}
    board = boards(raw, "lm")[0]
    assert board.best("NDCG@3") == 0.1
    assert board.best("NDCG@10") == 0.5
    assert math.isnan(board.best("MRR@3"))


def test_an_unknown_system_names_those_that_are_there() -> None:
    with pytest.raises(ArtifactError, match=r"no system 'gpt' but random, lm; run `trsr evaluate`"):
        boards(metrics(test=0.5), "gpt")


@pytest.mark.parametrize(
    "broken", [{}, {"systems": {"lm": {"test": {}}}}, {"systems": {"lm": {"test": None}}}]
)
def test_metrics_of_another_form_are_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError, match="not of the form"):
        boards(broken, "lm")


def test_overall_is_above_only_when_above_all() -> None:
    own, low, same, high = (Interval(m, m - 0.05, m + 0.05) for m in (0.5, 0.2, 0.52, 0.9))
    assert overall(own, [low, low]) == Verdict.ABOVE
    assert overall(own, [low, same]) == Verdict.UNCLEAR
    assert overall(own, [low, same, high]) == Verdict.BELOW


def test_intervals_that_touch_are_not_told_apart() -> None:
    assert Interval(0.5, 0.4, 0.6).against(Interval(0.7, 0.6, 0.8)) == Verdict.UNCLEAR
    assert Interval(0.5, 0.4, 0.6).against(Interval(0.7, 0.61, 0.8)) == Verdict.BELOW


def test_an_interval_that_could_not_be_computed_decides_nothing() -> None:
    assert Interval(math.nan, math.nan, math.nan).against(Interval(0.1, 0.0, 0.2)) == Verdict.UNCLEAR
