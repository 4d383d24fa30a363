"""Histories as sparse rows, products of such rows with those of items, and what items of equal rows share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from trsr.baselines.baseline import Places

_PAIRS_A_CHUNK: Final = 16_384


def history_rows(histories: Sequence[Places], n_items: int, decay: float = 1.0) -> sparse.csr_array:
    """Make a row of every history: an item weighs `decay` to the power of its age.

    Parameters
    ----------
    histories
        Places in the catalogue, oldest first; may be empty.
    n_items
        Size of the catalogue.
    decay
        Weight of an item against that of the one taken after it.

    Returns
    -------
    scipy.sparse.csr_array
        ``(n_users, n_items)``; items that were taken again have the sum of their weights.

    Examples
    --------
    >>> rows = history_rows([np.array([2, 0, 2], np.int32)], n_items=3, decay=0.5)
    >>> rows.toarray().tolist()
    [[0.5, 0.0, 1.25]]
    """
    lengths = np.array([len(history) for history in histories], dtype=np.int64)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    places = np.concatenate([*histories, np.empty(0, np.int32)])
    ages = np.repeat(ends[1:], lengths) - 1 - np.arange(len(places))
    rows = sparse.csr_array((decay**ages, places, ends), shape=(len(histories), n_items))
    rows.sum_duplicates()
    return rows


def products(
    profiles: sparse.csr_array, items: sparse.csr_array, candidates: Places | None
) -> NDArray[np.float64]:
    """Multiply users' rows with rows of items.

    Parameters
    ----------
    profiles
        ``(n_users, n_features)``.
    items
        ``(n_items, n_features)``.
    candidates
        Which items to take for each user, ``(n_users, n_candidates)``; None for all. Only their pairs
        are worked out, in chunks, so that memory depends neither on users nor on the catalogue.

    Returns
    -------
    numpy.ndarray
        ``(n_users, n_candidates)`` or ``(n_users, n_items)``.
    """
    if candidates is None:
        table: NDArray[np.float64] = (profiles @ items.T).toarray()
        return table
    wanted = candidates.ravel()
    users = np.repeat(np.arange(len(candidates)), candidates.shape[1])
    scores = np.empty(len(wanted))
    for start in range(0, len(wanted), _PAIRS_A_CHUNK):
        chunk = slice(start, start + _PAIRS_A_CHUNK)
        scores[chunk] = profiles[users[chunk]].multiply(items[wanted[chunk]]).sum(axis=1)
    return scores.reshape(candidates.shape)


def row_kinds(table: NDArray[Any]) -> NDArray[np.int64]:
    """Give the rows of a table numbers, equal ones the same, ``(n_rows,)``.

    Examples
    --------
    >>> row_kinds(np.array([[2.0, 1.0], [0.0, 3.0], [2.0, 1.0]])).tolist()
    [1, 0, 1]
    """
    if not table.size:
        return np.zeros(len(table), np.int64)
    rows = np.ascontiguousarray(table)
    whole = rows.view(np.dtype((np.void, rows.shape[1] * rows.itemsize)))[:, 0]
    return np.unique(whole, return_inverse=True)[1].astype(np.int64)


def share_ties(
    scores: NDArray[np.float64], kinds: NDArray[np.int64], candidates: Places | None
) -> NDArray[np.float64]:
    """Give all of a user's candidates of one kind the score of the first of them.

    A product of dense matrices rounds the same pair differently at different places, and what differs in
    the last bit doesn't tie.

    Parameters
    ----------
    scores
        ``(n_users, n_candidates)`` or ``(n_users, n_items)``.
    kinds
        Of all items, as `row_kinds` numbers them, ``(n_items,)``.
    candidates
        What was scored, ``(n_users, n_candidates)``; None for all items.

    Examples
    --------
    >>> kinds = np.array([0, 1, 0])
    >>> share_ties(np.array([[0.5, 0.2, 0.4]]), kinds, None).tolist()
    [[0.5, 0.2, 0.5]]
    >>> share_ties(np.array([[0.2, 0.4, 0.5]]), kinds, np.array([[1, 2, 0]])).tolist()
    [[0.2, 0.4, 0.4]]
    """
    if candidates is None:
        _, firsts, own = np.unique(kinds, return_index=True, return_inverse=True)
        return scores[:, firsts[own]]
    asked = kinds[candidates]
    order = np.argsort(asked, axis=1, kind="stable")
    in_order = np.take_along_axis(asked, order, axis=1)
    begins = np.ones(asked.shape, dtype=bool)
    begins[:, 1:] = in_order[:, 1:] != in_order[:, :-1]
    firsts = np.maximum.accumulate(np.where(begins, np.arange(asked.shape[1]), 0), axis=1)
    shared = np.empty_like(scores)
    first_columns = np.take_along_axis(order, firsts, axis=1)
    np.put_along_axis(shared, order, np.take_along_axis(scores, first_columns, axis=1), axis=1)
    return shared
