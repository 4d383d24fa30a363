"""Recall, MRR and NDCG of one relevant item, per user, in expectation over the order of equal scores.

With one relevant item at rank ``r`` every metric at cut-off K is a gain ``g(r)``
for ``r <= K`` and 0 beyond: 1 for Recall, ``1 / r`` for MRR, ``1 / log2(r + 1)``
for NDCG. When the target shares its score with ``t`` others and ``b`` are above,
its rank is any of ``b + 1 ... b + t + 1`` with equal chance, and the metric is the
mean gain over these ranks. It is not the gain at the mean rank, which would turn
two tied candidates at the cut-off into all or nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trsr.errors import DataError

FAMILIES: Final = ("Recall", "MRR", "NDCG")
"""Names of the metrics, without their cut-offs."""

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]


def place_target(scores: ArrayLike, target: ArrayLike) -> tuple[_Ints, _Ints]:
    """Count the candidates above the target and those equal to it.

    Parameters
    ----------
    scores
        Scores of all candidates, the target among them, ``(n_users, n_candidates)``.
    target
        Column of the target per user, ``(n_users,)``.

    Returns
    -------
    tuple[numpy.ndarray, numpy.ndarray]
        Candidates with a higher score, and other candidates with the same score,
        both ``(n_users,)``.

    Raises
    ------
    DataError
        When a score is NaN.

    Examples
    --------
    >>> above, tied = place_target([[0.9, 0.5, 0.5], [0.1, 0.2, 0.3]], [2, 2])
    >>> above.tolist(), tied.tolist()
    ([1, 0], [1, 0])
    """
    table = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    column = np.asarray(target, dtype=np.int64)
    if np.isnan(table).any():
        row = int(np.argwhere(np.isnan(table))[0, 0])
        message = f"scores must be numbers, got NaN for user number {row}; a NaN has no place in a ranking"
        raise DataError(message)
    own = np.take_along_axis(table, column[:, None], axis=1)
    return (table > own).sum(axis=1), (table == own).sum(axis=1) - 1


def expected_metrics(above: ArrayLike, tied: ArrayLike, ks: Sequence[int]) -> dict[str, _Floats]:
    """Compute every metric per user.

    Parameters
    ----------
    above
        Candidates with a higher score than the target, ``(n_users,)``.
    tied
        Other candidates with the target's score, ``(n_users,)``.
    ks
        Cut-offs.

    Returns
    -------
    dict[str, numpy.ndarray]
        ``Recall@3`` and so on, family by family, each ``(n_users,)``.

    Examples
    --------
    A constant scorer over 21 candidates has the target in the first 3 with chance 3 / 21:

    >>> float(expected_metrics([0], [20], [3])["Recall@3"][0]) == 3 / 21
    True
    """
    first = np.asarray(above, dtype=np.int64)
    last = first + np.asarray(tied, dtype=np.int64) + 1
    ranks = np.arange(1, max(ks, default=0) + 1)
    gains = dict(zip(FAMILIES, (np.ones(len(ranks)), 1 / ranks, 1 / np.log2(ranks + 1)), strict=True))
    metrics = {}
    for family, gain in gains.items():
        total = np.concatenate([[0.0], np.cumsum(gain)])
        for k in ks:
            within = total[np.minimum(last, k)] - total[np.minimum(first, k)]
            metrics[f"{family}@{k}"] = within / (last - first)
    return metrics
