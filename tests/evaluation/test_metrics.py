"""Metrics of one relevant item: by hand, in expectation over ties, and against ir-measures without ties."""

import itertools
import math

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score

from trsr.errors import ConfigError, DataError
from trsr.evaluation.catalogue import catalogue_metrics, place_in_catalogue
from trsr.evaluation.metrics import (
    AUC,
    Metric,
    Protocol,
    expected_metrics,
    metrics_at,
    named,
    place_target,
    plain_name,
)

KS = (1, 3, 5, 10)


def _one(above: int, tied: int, ks: tuple[int, ...] = KS) -> dict[str, float]:
    return {
        name: float(values[0])
        for name, values in expected_metrics([above], [tied], 20, metrics_at(ks)).items()
    }


def _auc(above: ArrayLike, tied: ArrayLike, others: ArrayLike) -> NDArray[np.float64]:
    return expected_metrics(above, tied, others, [AUC()])["AUC"]


def test_names_go_family_by_family() -> None:
    assert list(expected_metrics([0], [0], 20, metrics_at((3, 5)))) == [
        "Recall@3",
        "Recall@5",
        "MRR@3",
        "MRR@5",
        "NDCG@3",
        "NDCG@5",
        "AUC",
    ]


def test_first_rank_gives_one_everywhere() -> None:
    assert set(_one(0, 0).values()) == {1.0}


def test_third_rank_by_hand() -> None:
    got = _one(2, 0)
    assert (got["Recall@1"], got["Recall@3"]) == (0, 1)
    assert (got["MRR@1"], got["MRR@3"]) == (0, pytest.approx(1 / 3))
    assert (got["NDCG@1"], got["NDCG@3"]) == (0, pytest.approx(0.5))


def test_beyond_the_cutoff_all_are_zero() -> None:
    assert {name: value for name, value in _one(10, 0).items() if value} == {"AUC": 0.5}


def test_constant_scorer_over_21_gets_three_in_twenty_one() -> None:
    got = _one(0, 20)
    assert got["Recall@3"] == 3 / 21
    assert got["MRR@3"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 21)
    assert got["NDCG@3"] == pytest.approx((1 + 1 / math.log2(3) + 1 / 2) / 21)


def test_a_tie_over_the_cutoff_is_the_mean_of_the_metric_not_the_metric_of_the_mean_rank() -> None:
    # Ranks 3 and 4 with equal chance: at the mean rank 3.5, Recall@3 would be 0.
    got = _one(2, 1)
    assert got["Recall@3"] == 0.5
    assert got["MRR@3"] == pytest.approx(1 / 6)
    assert got["MRR@5"] == pytest.approx((1 / 3 + 1 / 4) / 2)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_expectation_is_the_mean_over_all_orders_of_the_candidates(scores: list[int], at: int) -> None:
    target = at % len(scores)
    recall, mrr = [], []
    for order in itertools.permutations(range(len(scores))):
        # A stable sort leaves tied candidates in this order.
        rank = sorted(order, key=lambda place: -scores[place]).index(target) + 1
        recall.append(rank <= 3)
        mrr.append(1 / rank if rank <= 3 else 0)
    above, tied = place_target([scores], [target])
    got = expected_metrics(above, tied, len(scores) - 1, metrics_at([3]))
    assert got["Recall@3"][0] == pytest.approx(np.mean(recall))
    assert got["MRR@3"][0] == pytest.approx(np.mean(mrr))


def test_positive_first_with_ties_by_position_gains_nothing() -> None:
    # Published code puts the target first and sorts stably: equal scores would make it rank 1.
    scores = np.zeros((4, 21))
    above, tied = place_target(scores, np.zeros(4, dtype=int))
    assert above.tolist() == [0] * 4
    assert tied.tolist() == [20] * 4
    assert expected_metrics(above, tied, 20, metrics_at([3]))["Recall@3"].tolist() == [3 / 21] * 4


def test_target_is_placed_by_hand() -> None:
    above, tied = place_target([[0.2, 0.9, 0.2, 0.2], [0.5, 0.1, 0.4, 0.3]], [2, 0])
    assert above.tolist() == [1, 0]
    assert tied.tolist() == [2, 0]


def test_minus_infinity_is_a_score() -> None:
    above, tied = place_target([[-np.inf, 0.0, -np.inf]], [0])
    assert (above[0], tied[0]) == (1, 1)


def test_nan_is_refused_with_the_user() -> None:
    with pytest.raises(DataError, match="NaN for user number 1"):
        place_target([[0.1, 0.2], [0.1, np.nan]], [0, 0])


def test_no_users_give_empty_metrics() -> None:
    assert expected_metrics([], [], 20, metrics_at([3]))["NDCG@3"].shape == (0,)


def test_agrees_with_ir_measures_where_there_is_no_tie() -> None:
    rng = np.random.default_rng(0)
    scores = rng.permuted(np.tile(np.arange(21.0), (200, 1)), axis=1)
    target = rng.integers(0, 21, size=200)
    qrels = [ir_measures.Qrel(str(user), str(item), 1) for user, item in enumerate(target)]
    run = [
        ir_measures.ScoredDoc(str(user), str(item), float(score))
        for user, row in enumerate(scores)
        for item, score in enumerate(row)
    ]
    mine = expected_metrics(*place_target(scores, target), 20, metrics_at(KS))
    for k in KS:
        measures = {
            ir_measures.R @ k: f"Recall@{k}",
            ir_measures.RR @ k: f"MRR@{k}",
            ir_measures.nDCG @ k: f"NDCG@{k}",
        }
        theirs = ir_measures.calc_aggregate(list(measures), qrels, run)
        for measure, name in measures.items():
            assert mine[name].mean() == pytest.approx(theirs[measure], abs=1e-9), name


def test_auc_by_hand() -> None:
    assert _auc([0, 20, 10, 0, 3], [0, 0, 0, 20, 4], 20).tolist() == [1.0, 0.0, 0.5, 0.5, 0.75]


def test_auc_with_nothing_to_compare_with_is_one_half() -> None:
    assert _auc([0], [0], [0]).tolist() == [0.5]


@given(st.lists(st.integers(0, 3), min_size=2, max_size=6), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_auc_is_the_mean_over_all_orders_of_the_candidates(scores: list[int], at: int) -> None:
    target = at % len(scores)
    below = []
    for order in itertools.permutations(range(len(scores))):
        rank = sorted(order, key=lambda place: -scores[place]).index(target) + 1
        below.append((len(scores) - rank) / (len(scores) - 1))
    above, tied = place_target([scores], [target])
    assert _auc(above, tied, len(scores) - 1)[0] == pytest.approx(np.mean(below))


def test_auc_agrees_with_scikit_learn_with_and_without_ties() -> None:
    rng = np.random.default_rng(0)
    scores = np.round(rng.random((50, 21)), 1)
    target = rng.integers(0, 21, size=50)
    got = _auc(*place_target(scores, target), 20)
    want = [roc_auc_score(np.arange(21) == at, row) for row, at in zip(scores, target, strict=True)]
    assert got == pytest.approx(want)


def test_agrees_with_ir_measures_on_the_whole_catalogue() -> None:
    rng = np.random.default_rng(1)
    scores = rng.permuted(np.tile(np.arange(300.0), (60, 1)), axis=1)
    target = rng.integers(0, 300, size=60)
    histories = [rng.choice(np.setdiff1d(np.arange(300), [at]), 40, replace=False) for at in target]
    qrels = [ir_measures.Qrel(str(user), str(item), 1) for user, item in enumerate(target)]
    run = [
        ir_measures.ScoredDoc(str(user), str(item), float(row[item]))
        for user, row in enumerate(scores)
        for item in np.setdiff1d(np.arange(300), histories[user])
    ]
    mine = catalogue_metrics(place_in_catalogue(scores, target, histories), metrics_at((10, 50)))
    for k in (10, 50):
        measures = {
            ir_measures.R @ k: f"Recall@{k}",
            ir_measures.RR @ k: f"MRR@{k}",
            ir_measures.nDCG @ k: f"NDCG@{k}",
        }
        theirs = ir_measures.calc_aggregate(list(measures), qrels, run)
        for measure, name in measures.items():
            assert mine[f"{name} (catalogue)"].mean() == pytest.approx(theirs[measure], abs=1e-9), name


class Halves(Metric):
    """1 in the first half of the candidates, whichever their number."""

    def gains(self, ranks: NDArray[np.float64], others: int) -> NDArray[np.float64]:
        return (ranks <= (others + 1) / 2).astype(np.float64)


def test_an_own_metric_says_its_gain_alone_and_ties_are_shared_fairly() -> None:
    got = expected_metrics([0, 9, 0, 0], [0, 2, 20, 3], [20, 20, 20, 3], [Halves()])["Halves"]
    # Ranks 1; 10, 11 and 12 of 21, of which 10 alone is in the first half; all of 21; all of 4.
    assert got.tolist() == pytest.approx([1, 1 / 3, 10 / 21, 0.5])


def test_gains_that_are_no_numbers_are_refused() -> None:
    class Broken(Metric):
        def gains(self, ranks: NDArray[np.float64], others: int) -> NDArray[np.float64]:
            return np.log(ranks - 1, out=np.full(len(ranks), np.nan), where=ranks > 1)

    with pytest.raises(ConfigError, match="'Broken' must give one finite number a rank"):
        expected_metrics([0], [0], 20, [Broken()])


def test_protocols_never_share_a_name() -> None:
    plain = {name: np.ones(1) for name in ("Recall@3", "AUC")}
    names = [*plain, *(name for protocol in Protocol for name in named(plain, protocol))]
    assert len(set(names)) == 2 * (1 + len(Protocol))
    assert {plain_name(name) for name in names} == set(plain)
