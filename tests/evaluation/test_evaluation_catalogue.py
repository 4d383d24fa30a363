"""Ranks in the whole catalogue: by hand, with history, ties and repeats."""

import numpy as np
import pytest

from trsr.errors import DataError
from trsr.evaluation.catalogue import catalogue_metrics, place_in_catalogue, rank_catalogue, top_items
from trsr.evaluation.metrics import metrics_at


def _table(seed: int, users: int = 50, items: int = 30) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 8, size=(users, items)).astype(float)
    histories = [rng.integers(0, items, size=rng.integers(0, 6)) for _ in range(users)]
    return scores, rng.integers(0, items, size=users), histories


def test_agrees_with_counting_item_by_item() -> None:
    scores, targets, histories = _table(0)
    ranks = place_in_catalogue(scores, targets, histories)
    for user, (row, target, history) in enumerate(zip(scores, targets, histories, strict=True)):
        pool = [item for item in range(30) if item != target and item not in set(history.tolist())]
        assert ranks.above[user] == sum(row[item] > row[target] for item in pool)
        assert ranks.tied[user] == sum(row[item] == row[target] for item in pool)
        assert ranks.others[user] == len(pool)


def test_history_is_not_ranked_and_a_repeated_target_is() -> None:
    scores = [[0.9, 0.8, 0.7, 0.6]]
    assert place_in_catalogue(scores, [3], [[0, 0, 1]]).above.tolist() == [1]
    repeated = place_in_catalogue(scores, [3], [[0, 3, 3]])
    assert (repeated.above[0], repeated.others[0]) == (2, 2)


def test_blocks_change_nothing() -> None:
    scores, targets, histories = _table(1)
    whole = place_in_catalogue(scores, targets, histories)
    asked = []

    def score(users: slice) -> np.ndarray:
        asked.append(users)
        return scores[users]

    parts = rank_catalogue(score, targets, histories, users_a_block=7)
    assert len(asked) == 8
    for name in ("above", "tied", "others"):
        assert getattr(parts, name).tolist() == getattr(whole, name).tolist()


def test_a_constant_scorer_gets_k_in_the_number_of_ranked_items() -> None:
    ranks = place_in_catalogue(np.zeros((1, 100)), [5], [[1, 2, 3]])
    got = catalogue_metrics(ranks, metrics_at([10]))
    assert got["Recall@10 (catalogue)"][0] == pytest.approx(10 / 97)
    assert got["AUC (catalogue)"][0] == 0.5


def test_no_name_is_that_of_a_sampled_metric() -> None:
    names = catalogue_metrics(place_in_catalogue([[1.0, 2.0]], [0], [[]]), metrics_at([1, 10]))
    assert all(name.endswith(" (catalogue)") for name in names)


def test_no_users_and_no_items_left() -> None:
    ranks = rank_catalogue(lambda users: np.empty((0, 3)), [], [])
    assert catalogue_metrics(ranks, metrics_at([3]))["NDCG@3 (catalogue)"].shape == (0,)
    alone = place_in_catalogue([[0.1, 0.2]], [0], [[1]])
    assert catalogue_metrics(alone, metrics_at([1]))["Recall@1 (catalogue)"].tolist() == [1.0]


def test_nan_and_other_numbers_of_users_are_refused() -> None:
    with pytest.raises(DataError, match="NaN for user number 0"):
        place_in_catalogue([[0.1, np.nan]], [0], [[]])
    with pytest.raises(DataError, match="got 1, 2 and 1"):
        place_in_catalogue([[0.1, 0.2]], [0, 1], [[]])


def test_the_best_outside_the_history_are_retrieved_in_their_order() -> None:
    scores, _, histories = _table(2)
    found = top_items(scores, histories, 5, np.random.default_rng(0))
    for row, history, items in zip(scores, histories, found, strict=True):
        assert not set(items.tolist()) & set(history.tolist())
        assert len(set(items.tolist())) == 5
        rest = [row[item] for item in range(30) if item not in set(history.tolist())]
        assert row[items].tolist() == sorted(rest, reverse=True)[:5]


def test_equal_scores_are_retrieved_by_chance_not_by_place() -> None:
    rng = np.random.default_rng(0)
    times = np.zeros(6)
    for _ in range(1200):
        times[top_items(np.zeros((1, 6)), [[]], 2, rng)[0]] += 1
    assert times == pytest.approx(np.full(6, 400), abs=75)


def test_minus_infinity_comes_before_the_history() -> None:
    found = top_items([[-np.inf, 1.0, 0.5]], [[1]], 2, np.random.default_rng(0))
    assert found.tolist() == [[2, 0]]


def test_more_than_is_left_is_refused() -> None:
    with pytest.raises(DataError, match="user number 1 has 2 left"):
        top_items(np.zeros((2, 4)), [[0], [1, 2]], 3, np.random.default_rng(0))
