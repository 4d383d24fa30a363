"""The target's place among all items of the catalogue that the user has not taken.

Items of the history leave the ranking, as nobody is shown them. The target stays
even when the user took it before: it has to be ranked to be measured. Such repeats
are easier than they look, because the items that compete with them for a place are
gone; see the slice ``repeat``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trsr.errors import DataError
from trsr.evaluation.metrics import AUC, Protocol, expected_auc, expected_metrics, named, refuse_nan

USERS_A_BLOCK: Final = 256
"""Users whose scores of the whole catalogue are held at a time."""

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CatalogueRanks:
    """Where each user's target stands in the whole catalogue.

    Parameters
    ----------
    above
        Items with a higher score than the target, without history, ``(n_users,)``.
    tied
        Other items with the target's score, without history, ``(n_users,)``.
    others
        Items beside the target that were ranked: the catalogue without history and target,
        ``(n_users,)``. Uniform negatives are drawn from exactly these.
    """

    above: _Ints
    tied: _Ints
    others: _Ints


def rank_catalogue(
    score: Callable[[slice], ArrayLike],
    targets: ArrayLike,
    histories: Sequence[ArrayLike],
    users_a_block: int = USERS_A_BLOCK,
) -> CatalogueRanks:
    """Place every target in the whole catalogue, block by block, so that few scores are held at once.

    Parameters
    ----------
    score
        Gives the scores of a slice of the users, ``(n_users_of_the_slice, n_items)``.
    targets
        Each user's target as its place in the catalogue, ``(n_users,)``.
    histories
        Each user's history as places in the catalogue; may be empty, may repeat.
    users_a_block
        Users whose scores are asked for at a time.

    Raises
    ------
    DataError
        When a score is NaN, or the scores of a block have another number of users.

    Examples
    --------
    >>> table = np.array([[0.9, 0.8, 0.7, 0.7]])
    >>> rank_catalogue(lambda users: table[users], [3], [[0]])
    CatalogueRanks(above=array([1]), tied=array([1]), others=array([2]))
    """
    column = np.asarray(targets, dtype=np.int64)
    parts = []
    for start in range(0, len(column), users_a_block):
        users = slice(start, min(start + users_a_block, len(column)))
        parts.append(place_in_catalogue(score(users), column[users], histories[users]))
    if not parts:
        none = np.empty(0, dtype=np.int64)
        return CatalogueRanks(none, none, none)
    return CatalogueRanks(
        np.concatenate([part.above for part in parts]),
        np.concatenate([part.tied for part in parts]),
        np.concatenate([part.others for part in parts]),
    )


def place_in_catalogue(
    scores: ArrayLike, targets: ArrayLike, histories: Sequence[ArrayLike]
) -> CatalogueRanks:
    """Place the targets of some users whose scores are all at hand; see `rank_catalogue`.

    Parameters
    ----------
    scores
        ``(n_users, n_items)``.
    targets
        Places of the targets, ``(n_users,)``.
    histories
        Places of the histories, one sequence a user.
    """
    table = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    column = np.asarray(targets, dtype=np.int64)
    if not len(table) == len(column) == len(histories):
        message = (
            "scores, targets and histories must be of the same users, got "
            f"{len(table)}, {len(column)} and {len(histories)}"
        )
        raise DataError(message)
    refuse_nan(table)
    out = _in_history(histories, table.shape[1])
    out[np.arange(len(column)), column] = True
    own = np.take_along_axis(table, column[:, None], axis=1)
    return CatalogueRanks(
        above=((table > own) & ~out).sum(axis=1),
        tied=((table == own) & ~out).sum(axis=1),
        others=table.shape[1] - out.sum(axis=1),
    )


def catalogue_metrics(ranks: CatalogueRanks, ks: Sequence[int]) -> dict[str, _Floats]:
    """Compute Recall, MRR, NDCG and AUC over the whole catalogue, per user.

    Returns
    -------
    dict[str, numpy.ndarray]
        ``Recall@10 (catalogue)`` and so on, each ``(n_users,)``.

    Examples
    --------
    >>> ranks = CatalogueRanks(np.array([9]), np.array([1]), np.array([99]))
    >>> float(catalogue_metrics(ranks, [10])["Recall@10 (catalogue)"][0])
    0.5
    """
    metrics = expected_metrics(ranks.above, ranks.tied, ks)
    auc = {AUC: expected_auc(ranks.above, ranks.tied, ranks.others)}
    return named(metrics | auc, Protocol.CATALOGUE)


def top_items(
    scores: ArrayLike, histories: Sequence[ArrayLike], n: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Retrieve each user's `n` items of highest score that are not in the history.

    Nothing here knows the target, so that a target that repeats an item of the history
    is never retrieved. Equal scores are put into an order by chance, not by their places
    in the catalogue, which may tell how popular an item is.

    Parameters
    ----------
    scores
        ``(n_users, n_items)``.
    histories
        Places of the histories, one sequence a user.
    n
        Items a user.
    rng
        Source of the order of equal scores.

    Returns
    -------
    numpy.ndarray
        Places in the catalogue by falling score, ``(n_users, n)``.

    Raises
    ------
    DataError
        When a score is NaN, or a user has fewer than `n` items left.

    Examples
    --------
    >>> top_items([[0.9, 0.1, 0.5, 0.3]], [[0]], 2, np.random.default_rng(0)).tolist()
    [[2, 3]]
    """
    table = np.array(scores, dtype=np.float64, ndmin=2)
    refuse_nan(table)
    out = _in_history(histories, table.shape[1])
    left = table.shape[1] - out.sum(axis=1)
    if len(left) and left.min() < n:
        message = (
            f"{n} items can't be retrieved from a catalogue of {table.shape[1]:,} of which user number "
            f"{int(left.argmin())} has {int(left.min())} left; retrieve fewer"
        )
        raise DataError(message)
    order = rng.permutation(table.shape[1])
    shuffled, gone = table[:, order], out[:, order]
    # A score of -inf is a score; what is in the history goes behind even those.
    shuffled = np.where(np.isneginf(shuffled), np.finfo(np.float64).min, shuffled)
    shuffled[gone] = -np.inf
    best = np.argpartition(-shuffled, n - 1, axis=1)[:, :n]
    falling = np.argsort(-np.take_along_axis(shuffled, best, axis=1), axis=1, kind="stable")
    return order[np.take_along_axis(best, falling, axis=1)].astype(np.int64)


def _in_history(histories: Sequence[ArrayLike], n_items: int) -> NDArray[np.bool_]:
    """Mark each user's history, ``(n_users, n_items)``."""
    lists = [np.asarray(history, dtype=np.int64) for history in histories]
    marked = np.zeros((len(lists), n_items), dtype=bool)
    if lists:
        rows = np.repeat(np.arange(len(lists)), [len(history) for history in lists])
        marked[rows, np.concatenate(lists)] = True
    return marked
