"""What lists are beyond being right: how much of the catalogue they show, and how little known that is.

As Harte et al. (Leveraging large language models for sequential recommendation, RecSys 2023) and Boz et al.
(Improving sequential recommendations with LLMs, arXiv 2402.01339) measure their systems at 10 and 20.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trsr.evaluation.catalogue import CatalogueRanks
from trsr.evaluation.metrics import Recall, expected_metrics

LIST_LENGTHS: Final = (10, 20)
"""Lengths of the lists that are measured."""

_Floats = NDArray[np.float64]


def coverage(lists: ArrayLike, n_items: int) -> float:
    """Give the share of the catalogue that stands in any user's list, ``(n_users, k)`` places of items.

    Few users can't cover much: at most ``n_users * k / n_items``.

    Examples
    --------
    >>> coverage([[0, 1], [1, 2]], n_items=12)
    0.25
    """
    return len(np.unique(np.asarray(lists))) / n_items


def novelty(lists: ArrayLike, counts: ArrayLike) -> _Floats:
    """Average -log2 of the share of all training interactions that an item has, ``(n_users,)`` bits.

    One bit more is an item half as popular. An item that training never saw has no finite value: it counts as
    if it had been taken once. In the authors' scripts such items count 0, as if everybody knew them. Source:
    Zhou et al., Solving the apparent diversity-accuracy dilemma of recommender systems, PNAS 2010.

    Parameters
    ----------
    lists
        Places of items, ``(n_users, k)``.
    counts
        How often training has each item, ``(n_items,)``.

    Examples
    --------
    Half of the interactions, a quarter of them:

    >>> novelty([[0, 1]], counts=[4, 2, 1, 1]).tolist()
    [1.5]
    """
    taken = np.maximum(np.asarray(counts, dtype=np.float64), 1.0)
    bits = np.log2(max(float(np.sum(counts)), 1.0)) - np.log2(taken)
    means: _Floats = bits[np.asarray(lists)].mean(axis=1)
    return means


def serendipity(ranks: CatalogueRanks, targets: ArrayLike, counts: ArrayLike, k: int) -> _Floats:
    """Give Recall@k of targets that the list of the `k` most popular items doesn't hold, ``(n_users,)``.

    A user with an expected target counts 0, as in the authors' scripts, so that the mean is that of all users
    and never above Recall@k. Ties are taken in expectation on both sides: in the ranking, and where items of
    one count share the last places of the popular list. Source: Ge et al., Beyond accuracy: evaluating
    recommender systems by coverage and serendipity, RecSys 2010, with popularity as the primitive system.

    Parameters
    ----------
    ranks
        Where targets stand in the whole catalogue.
    targets
        Their places in it, ``(n_users,)``.
    counts
        How often training has each item, ``(n_items,)``.

    Examples
    --------
    Both targets are found at once; the first one is the most popular item.

    >>> both = np.array([0, 0])
    >>> serendipity(CatalogueRanks(both, both, both + 3), [0, 1], [9, 5, 2, 2], k=1).tolist()
    [0.0, 1.0]
    """
    recall = Recall(k=k)
    found = expected_metrics(ranks.above, ranks.tied, ranks.others, [recall])[recall.name]
    unexpected: _Floats = 1.0 - popular(counts, k)[np.asarray(targets)]
    return found * unexpected


def popular(counts: ArrayLike, k: int) -> _Floats:
    """Give each item's chance to be among the `k` most popular, ``(n_items,)``; equal counts share places.

    Examples
    --------
    >>> popular([9, 5, 5, 1], k=2).tolist()
    [1.0, 0.5, 0.5, 0.0]
    """
    _, level, sizes = np.unique(-np.asarray(counts), return_inverse=True, return_counts=True)
    above = np.cumsum(sizes) - sizes
    chances: _Floats = np.clip((k - above) / sizes, 0.0, 1.0)[level]
    return chances
