"""How sure a mean over users is: percentile bootstrap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trsr.errors import DataError

_CELLS_A_BLOCK = 4_000_000
_OUTSIDE = (0.025, 0.975)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over users with the ends of its 95% interval."""

    mean: float
    low: float
    high: float


def bootstrap_means(values: NDArray[np.float64], resamples: int, seed: int) -> list[Estimate]:
    """Compute means over users with 95% percentile intervals; all columns share the resamples.

    Parameters
    ----------
    values
        One row a user, one column a metric, ``(n_users, n_metrics)``.
    resamples
        How many times users are drawn anew, with replacement.
    seed
        Seed of the draws.

    Returns
    -------
    list[Estimate]
        One per column.

    Raises
    ------
    DataError
        When there is no user.

    Examples
    --------
    >>> bootstrap_means(np.ones((50, 1)), resamples=100, seed=0)
    [Estimate(mean=1.0, low=1.0, high=1.0)]
    """
    n_users, n_metrics = values.shape
    if n_users == 0:
        message = "an interval needs at least one user, got none; is the split empty?"
        raise DataError(message)
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, n_metrics))
    block = max(1, _CELLS_A_BLOCK // n_users)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        # How often each user is drawn is all that a mean needs to know about a resample.
        times = rng.multinomial(n_users, np.full(n_users, 1 / n_users), size=size)
        means[start : start + size] = times @ values / n_users
    low, high = np.quantile(means, _OUTSIDE, axis=0)
    return [Estimate(*map(float, row)) for row in zip(values.mean(axis=0), low, high, strict=True)]
