import math

import numpy as np
import pytest

from trsr.evaluation.beyond_accuracy import coverage, novelty, popular, serendipity
from trsr.evaluation.catalogue import CatalogueRanks, catalogue_metrics, rank_catalogue
from trsr.evaluation.metrics import Recall

COUNTS = np.array([6, 4, 4, 1, 1, 0])


def test_coverage_counts_each_item_once() -> None:
    assert coverage([[0, 1, 2], [2, 1, 0], [0, 1, 3]], 6) == pytest.approx(4 / 6)


def test_novelty_is_the_mean_of_each_lists_bits() -> None:
    found = novelty([[0, 1], [3, 4]], COUNTS)
    shares = np.array([6, 4, 4, 1, 1]) / 16
    assert found == pytest.approx([-(math.log2(shares[0]) + math.log2(shares[1])) / 2, 4.0])


def test_an_item_that_training_never_saw_is_as_novel_as_the_rarest_of_those_that_it_saw() -> None:
    seen, unseen = novelty([[3], [5]], COUNTS)
    assert seen == unseen == pytest.approx(4.0)


def test_items_of_one_count_share_the_last_popular_places() -> None:
    assert popular(COUNTS, 1).tolist() == [1, 0, 0, 0, 0, 0]
    assert popular(COUNTS, 2).tolist() == [1, 0.5, 0.5, 0, 0, 0]
    assert popular(COUNTS, 20).tolist() == [1] * 6


def test_only_targets_that_popularity_does_not_list_are_a_find() -> None:
    # Targets: the popular item, one of two that share the second place, a rare one, and a rare one missed.
    ranks = CatalogueRanks(above=np.array([0, 1, 1, 4]), tied=np.zeros(4, int), others=np.full(4, 5))
    found = serendipity(ranks, [0, 1, 3, 4], COUNTS, k=2)
    assert found.tolist() == [0.0, 0.5, 1.0, 0.0]


def test_a_tied_target_is_found_by_chance() -> None:
    ranks = CatalogueRanks(above=np.array([1]), tied=np.array([1]), others=np.array([5]))
    assert serendipity(ranks, [3], COUNTS, k=2).tolist() == [0.5]


def test_popularity_itself_is_never_serendipitous() -> None:
    users, k = 6, 3
    ranks = rank_catalogue(lambda block: np.tile(COUNTS, (users, 1))[block], range(users), [[]] * users)
    assert catalogue_metrics(ranks, [Recall(k=k)])[f"Recall@{k} (catalogue)"].sum() == pytest.approx(k)
    assert serendipity(ranks, range(users), COUNTS, k).tolist() == [0.0] * users
