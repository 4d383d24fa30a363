"""What metrics among sampled candidates come to on average over all draws of uniform negatives.

Of the ``M`` items that a user's negatives are drawn from, let ``r`` stand above the
target. Among ``n`` negatives drawn without replacement the number above the target is
hypergeometric, ``P[X = x] = C(r, x) C(M - r, n - x) / C(M, n)``, and the expected
metric is the mean of its gain at rank ``X + 1``. Items with the target's score are put
above or below it in every order with equal chance: with ``t`` of them the expectation
is the mean over ``r, r + 1, ..., r + t``. The figure is free of the noise of drawing,
and checks the sampled one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trsr.errors import DataError
from trsr.evaluation.catalogue import CatalogueRanks
from trsr.evaluation.metrics import AUC, Protocol, expected_auc, named, rank_gains

_ROWS_A_BLOCK: Final = 65_536

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]


def sampled_expectation(ranks: CatalogueRanks, negatives: int, ks: Sequence[int]) -> dict[str, _Floats]:
    """Compute the exact expectation of the sampled metrics under uniform negatives, per user.

    Parameters
    ----------
    ranks
        Where the targets stand in the whole catalogue.
    negatives
        Negatives a user, drawn uniformly without replacement from all items but history and target.
    ks
        Cut-offs.

    Returns
    -------
    dict[str, numpy.ndarray]
        ``Recall@3 (expected)`` and so on, each ``(n_users,)``. AUC does not depend on the number
        of negatives: its expectation is that of the whole catalogue.

    Raises
    ------
    DataError
        When a user has fewer items than `negatives` to draw from.

    Examples
    --------
    A target with one of two other items above it, and one negative: half of the draws beat it.

    >>> ranks = CatalogueRanks(np.array([1]), np.array([0]), np.array([2]))
    >>> float(sampled_expectation(ranks, 1, [1])["Recall@1 (expected)"][0])
    0.5
    """
    if len(ranks.others) and ranks.others.min() < negatives:
        message = (
            f"{negatives} negatives can't be drawn from {int(ranks.others.min())} items, all that the "
            f"catalogue leaves for user number {int(ranks.others.argmin())}"
        )
        raise DataError(message)
    gains = rank_gains(ks)
    means = {name: np.empty(len(ranks.above)) for name in gains}
    for pool in np.unique(ranks.others):
        users = np.flatnonzero(ranks.others == pool)
        first, last = ranks.above[users], ranks.above[users] + ranks.tied[users]
        lowest = int(first.min())
        above = np.arange(lowest, int(last.max()) + 1)
        expected = _expected_gains(above, int(pool), negatives, np.stack([*gains.values()], axis=1))
        for column, name in enumerate(gains):
            total = np.concatenate([[0.0], np.cumsum(expected[:, column])])
            means[name][users] = (total[last + 1 - lowest] - total[first - lowest]) / (last - first + 1)
    auc = {AUC: expected_auc(ranks.above, ranks.tied, ranks.others)}
    return named(means | auc, Protocol.EXPECTED)


def _expected_gains(above: _Ints, pool: int, negatives: int, gains: _Floats) -> _Floats:
    """Take the mean gain over all draws, ``(n, n_metrics)``, a block of the numbers `above` at a time."""
    blocks = range(0, len(above), _ROWS_A_BLOCK)
    parts = (
        _hypergeometric(above[start : start + _ROWS_A_BLOCK], pool, negatives, len(gains)) @ gains
        for start in blocks
    )
    return np.concatenate([*parts])


def _hypergeometric(above: _Ints, pool: int, draws: int, ranks: int) -> _Floats:
    """Chances that 0, 1, ... ``ranks - 1`` of the drawn are above, ``(n, ranks)``."""
    factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, pool + 1)))])

    def log_choose(n: _Ints, k: _Ints) -> _Floats:
        possible = (k >= 0) & (k <= n)
        safe = np.where(possible, k, 0)
        value = factorial[n] - factorial[safe] - factorial[n - safe]
        return np.where(possible, value, -np.inf)

    r = above[:, None]
    x = np.broadcast_to(np.arange(ranks), (len(above), ranks))
    whole = log_choose(np.array([pool]), np.array([draws]))
    chances: _Floats = np.exp(log_choose(r, x) + log_choose(pool - r, draws - x) - whole)
    return chances
