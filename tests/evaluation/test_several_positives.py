"""Impressions with several positives, by hand and against MIND's own definitions; intervals over persons."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from sklearn.metrics import ndcg_score, roc_auc_score

from trsr.errors import DataError
from trsr.evaluation.metrics import (
    AUC,
    MRR,
    NDCG,
    Recall,
    expected_metrics,
    metrics_at,
    metrics_frame,
    named,
    place_target,
    several_positives,
)
from trsr.evaluation.scoreboard import summarise
from trsr.evaluation.statistics import bootstrap_means, paired_tests


def random_rows(positives: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Twenty rows of eight candidates."""
    draw = np.random.default_rng(positives)
    scores = draw.permutation(160).reshape(20, 8) / 160
    return scores, np.argsort(draw.random((20, 8)), axis=1) < positives


def test_with_one_positive_all_are_the_usual_ones() -> None:
    scores, clicked = random_rows(1)
    scores = np.round(scores, 1)  # with ties
    metrics = metrics_at([1, 3, 5])
    above, tied = place_target(scores, clicked.argmax(axis=1))
    shared, found = several_positives(scores, clicked, np.ones_like(clicked), metrics)
    assert shared.tolist() == tied.tolist()
    for name, values in expected_metrics(above, tied, 7, metrics).items():
        assert np.allclose(found[name], values), name


def test_several_are_as_mind_measures_them() -> None:
    scores, clicked = random_rows(3)
    _, found = several_positives(scores, clicked, np.ones_like(clicked), [AUC(), NDCG(k=5), MRR(k=8)])
    for row in range(20):
        order = np.argsort(-scores[row])
        ranks = 1 + np.flatnonzero(clicked[row][order])
        assert found["AUC"][row] == pytest.approx(roc_auc_score(clicked[row], scores[row]))
        assert found["NDCG@5"][row] == pytest.approx(ndcg_score([clicked[row]], [scores[row]], k=5))
        assert found["MRR@8"][row] == pytest.approx(np.mean(1 / ranks))


def test_a_constant_scorer_gets_half_the_pairs_and_places_by_chance() -> None:
    clicked = np.array([[True, True, False, False]])
    tied, found = several_positives(
        np.zeros((1, 4)), clicked, np.ones((1, 4), bool), [AUC(), Recall(k=2), NDCG(k=1)]
    )
    assert tied.tolist() == [3]
    assert (found["AUC"][0], found["Recall@2"][0], found["NDCG@1"][0]) == (0.5, 0.5, 0.5)


def test_what_was_not_shown_takes_no_place() -> None:
    scores = np.array([[0.2, 0.9, -np.inf, -np.inf], [0.2, 0.9, 0.5, 0.4]])
    clicked = np.array([[True, False, False, False], [True, False, True, False]])
    _, found = several_positives(scores, clicked, np.isfinite(scores), [AUC(), MRR(k=4), NDCG(k=4)])
    assert found["AUC"].tolist() == [0.0, pytest.approx(1 / 4)]
    assert found["MRR@4"].tolist() == [0.5, pytest.approx((1 / 2 + 1 / 4) / 2)]
    assert found["NDCG@4"][0] == pytest.approx(1 / np.log2(3))


def rows(values: list[float], persons: list[str], metric: str = "NDCG@10") -> pl.DataFrame:
    """A frame of rows, some of one person."""
    count = len(values)
    told = {metric: np.array(values)}
    ids = [f"{person}#{number}" for number, person in enumerate(persons)]
    return metrics_frame(ids, ["test"] * count, [0] * count, told, persons)


def test_means_are_over_rows_and_intervals_over_persons() -> None:
    # Forty persons with nine rows each, all alike: rows would make the interval three times too narrow.
    persons = [f"p{number // 9:02}" for number in range(360)]
    values = [float(number // 9 % 2) for number in range(360)]
    frame = rows(values, persons)
    estimate = summarise(frame, 1000, 0).metrics["NDCG@10"]
    [of_persons] = bootstrap_means(np.array(values[::9])[:, None], 1000, 0)
    [of_rows] = bootstrap_means(np.array(values)[:, None], 1000, 0)
    assert estimate.mean == pytest.approx(0.5)
    assert (estimate.low, estimate.high) == (pytest.approx(of_persons.low), pytest.approx(of_persons.high))
    assert estimate.high - estimate.low > 2.5 * (of_rows.high - of_rows.low)


def test_a_person_with_more_rows_weighs_more() -> None:
    frame = rows([1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"])
    estimate = summarise(frame, 200, 0).metrics["NDCG@10"]
    assert (estimate.mean, estimate.low, estimate.high) == (0.75, 0.0, 1.0)


def test_many_rows_of_few_persons_prove_nothing() -> None:
    persons = [f"p{number % 4}" for number in range(400)]
    better, worse = rows([0.6] * 400, persons), rows([0.5] * 400, persons)
    [test] = paired_tests({"a": better, "b": worse}, [("a", "b")], ["NDCG@10"])
    assert test.difference.mean == pytest.approx(0.1)
    assert test.p > 0.1  # four persons have sixteen sign patterns


def test_figures_of_two_protocols_are_not_compared() -> None:
    one, other = (
        rows([0.5], ["p"], next(iter(named({"NDCG@10": np.ones(1)}, *told))))
        for told in (("rolling", "catalogue"), ("", "catalogue"))
    )
    assert one.columns[-1] == "NDCG@10 (rolling, catalogue)"
    with pytest.raises(DataError, match="another protocol"):
        paired_tests({"a": one, "b": other}, [("a", "b")], [one.columns[-1]])
