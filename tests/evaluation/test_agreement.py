import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from trsr.errors import DataError
from trsr.evaluation.agreement import hit_matrix, order_agreement, shared_hits


def _hits(values: list[float]) -> pl.DataFrame:
    return pl.DataFrame({"user_id": [f"u{number}" for number in range(len(values))], "Recall@3": values})


def _scores(rows: np.ndarray) -> pl.DataFrame:
    users = [f"u{number:03}" for number in range(len(rows))]
    items = [f"i{place:02}" for place in range(rows.shape[1])]
    return pl.DataFrame(
        {"user_id": np.repeat(users, len(items)), "item_id": items * len(users), "score": rows.ravel()}
    )


def test_shared_hits_by_hand() -> None:
    got = shared_hits(_hits([1, 1, 0, 0, 1]), _hits([1, 0, 1, 0, 1]).reverse(), "Recall@3")
    assert (got.both, got.only_first, got.only_second, got.neither) == pytest.approx((0.4, 0.2, 0.2, 0.2))
    assert (got.users, got.wins, got.losses, got.ties) == (5, 1, 1, 3)


def test_tied_targets_are_hits_in_part_and_shares_sum_to_one() -> None:
    got = shared_hits(_hits([0.5, 3 / 21]), _hits([0.5, 1]), "Recall@3")
    assert got.both == pytest.approx((0.25 + 3 / 21) / 2)
    assert got.both + got.only_first + got.only_second + got.neither == pytest.approx(1)
    assert (got.wins, got.losses, got.ties) == (0, 1, 1)


def test_matrix_holds_the_shared_hits_of_all_pairs() -> None:
    systems = {"a": _hits([1, 1, 0, 0]), "b": _hits([1, 0, 1, 0]), "c": _hits([0.5, 0.5, 0.5, 0.5])}
    got = hit_matrix(systems, "Recall@3")
    assert got.diagonal().tolist() == [0.5, 0.5, 0.5]
    assert got[0, 1] == shared_hits(systems["a"], systems["b"], "Recall@3").both == 0.25
    assert got.tolist() == got.T.tolist()


def test_rank_correlation_agrees_with_scipy_with_ties() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 9, (40, 21)).astype(float), rng.random((40, 21))
    second += 0.1 * first
    want = np.mean([spearmanr(a, b).statistic for a, b in zip(first, second, strict=True)])
    got = order_agreement(_scores(first), _scores(second).reverse())
    assert got.rank_correlation == pytest.approx(want)
    assert (got.users, got.users_without_correlation) == (40, 0)


def test_a_constant_scorer_has_no_correlation_and_is_counted() -> None:
    rows = np.random.default_rng(0).random((3, 21))
    flat = rows.copy()
    flat[1] = 0.5
    got = order_agreement(_scores(rows), _scores(flat))
    assert got.users_without_correlation == 1
    assert got.rank_correlation == pytest.approx(1)
    assert np.isnan(order_agreement(_scores(rows), _scores(np.zeros((3, 21)))).rank_correlation)


def test_overlap_of_the_first_three_by_hand() -> None:
    first = np.array([[6.0, 5, 4, 3, 2, 1]])
    assert order_agreement(_scores(first), _scores(first), k=3).jaccard == 1
    second = np.array([[6.0, 5, 1, 4, 2, 3]])
    assert order_agreement(_scores(first), _scores(second), k=3).jaccard == pytest.approx(2 / 4)
    # Every candidate is among the first 3 of 6 with chance one half: 1.5 of 4.5.
    constant = np.zeros((1, 6))
    assert order_agreement(_scores(first), _scores(constant), k=3).jaccard == pytest.approx(1.5 / 4.5)


def test_other_users_or_pairs_are_refused() -> None:
    with pytest.raises(DataError, match="same users"):
        shared_hits(_hits([1, 0]), _hits([1]), "Recall@3")
    rows = np.zeros((2, 3))
    with pytest.raises(DataError, match="same pairs"):
        order_agreement(_scores(rows), _scores(rows).head(5))
