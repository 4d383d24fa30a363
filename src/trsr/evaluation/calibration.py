"""Whether a score can be read as the probability of being the next item.

All figures are over pairs of user and candidate, and depend on the candidates: among
21 one is the target, so that a system that says 1/21 of everything is calibrated and
useless. Expected calibration error (Naeini et al. 2015) is the mean distance of a
bin's mean probability from its share of targets, weighted by the bin's pairs. It is
a distance, and noise makes it larger: a calibrated system has an error above 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.errors import DataError
from trsr.evaluation.statistics import Estimate, bootstrap_means
from trsr.records import ITEM, SCORE, TARGET, USER

BINS: Final = 10

_LEAST: Final = 1e-12
"""Probabilities are kept this far from 0 and 1 for the logarithm; a target at 0 costs 27.6, not infinity."""
_OUTSIDE = (0.025, 0.975)

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Pairs whose probability lies in one range; its upper end belongs to it.

    `predicted` is their mean probability, `observed` the share of them that are targets.
    """

    low: float
    high: float
    pairs: int
    predicted: float
    observed: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """How well one system's probabilities hold.

    Parameters
    ----------
    base_rate
        Share of targets among the pairs.
    equal_mass, equal_width
        Bins with about the same number of pairs each, and bins of the same width; without empty bins.
    ece_equal_mass, ece_equal_width
        Expected calibration errors by these bins, with 95% intervals over users (bins held fixed).
    brier
        Mean squared distance of the probability from 1 for targets and 0 for others.
    log_loss
        Mean negative logarithm of the probability of what came true.
    """

    users: int
    pairs: int
    base_rate: float
    equal_mass: tuple[ReliabilityBin, ...]
    equal_width: tuple[ReliabilityBin, ...]
    ece_equal_mass: Estimate
    ece_equal_width: Estimate
    brier: Estimate
    log_loss: Estimate


def calibrate(
    candidates: pl.DataFrame, scores: pl.DataFrame, resamples: int, seed: int, bins: int = BINS
) -> Calibration:
    """Measure the calibration of one system's probabilities.

    Parameters
    ----------
    candidates
        `USER` and `TARGET` of the users to be measured.
    scores
        `USER`, `ITEM` and `SCORE`, which is a probability; rows of other users are ignored.
    resamples, seed
        Of users, for the intervals.
    bins
        Bins of either kind; equal probabilities always share a bin, so that there may be fewer.

    Raises
    ------
    DataError
        When no user is left, a target has no score, or a score is no probability.

    Examples
    --------
    >>> candidates = pl.DataFrame({"user_id": ["u", "v"], "target": ["a", "b"]})
    >>> rows = {"user_id": ["u", "u", "v", "v"], "item_id": ["a", "b"] * 2, "score": [0.5] * 4}
    >>> got = calibrate(candidates, pl.DataFrame(rows), resamples=100, seed=0)
    >>> got.ece_equal_mass.mean, got.brier.mean
    (0.0, 0.25)
    """
    pairs = scores.select(USER, ITEM, pl.col(SCORE).cast(pl.Float64)).join(
        candidates.select(USER, TARGET), on=USER
    )
    bad = pairs.filter(pl.col(SCORE).is_null() | pl.col(SCORE).is_nan() | ~pl.col(SCORE).is_between(0, 1))
    if bad.height:
        user, item, value = bad.select(USER, ITEM, SCORE).row(0)
        message = (
            f"probabilities must lie in 0 to 1, got {value} for user {user!r}, item {item!r} "
            f"({bad.height:,} such pairs); this system's scores can't be read as probabilities"
        )
        raise DataError(message)
    if pairs.is_empty():
        message = "calibration needs at least one user with scores, got none"
        raise DataError(message)
    lacking = candidates.join(pairs.filter(pl.col(ITEM) == pl.col(TARGET)), on=USER, how="anti")
    if lacking.height:
        message = (
            f"the target of every user must have a probability, {lacking.height:,} have none, such as that "
            f"of user {lacking[USER][0]!r}; score all candidates"
        )
        raise DataError(message)
    user = pairs[USER].rank("dense").to_numpy().astype(np.int64) - 1
    p = pairs[SCORE].to_numpy()
    y = (pairs[ITEM] == pairs[TARGET]).to_numpy().astype(np.float64)
    clipped = np.clip(p, _LEAST, 1 - _LEAST)
    losses = np.stack([(p - y) ** 2, -(y * np.log(clipped) + (1 - y) * np.log1p(-clipped))], axis=1)
    size = np.bincount(user)
    means = np.stack([np.bincount(user, column) for column in losses.T], axis=1) / size[:, None]
    brier, log_loss = bootstrap_means(means, resamples, seed)
    mass, mass_error = _reliability(user, p, y, equal_mass_edges(p, bins), resamples, seed)
    width, width_error = _reliability(user, p, y, np.linspace(0, 1, bins + 1), resamples, seed)
    return Calibration(
        len(size), len(p), float(y.mean()), mass, width, mass_error, width_error, brier, log_loss
    )


def equal_mass_edges(p: _Floats, bins: int) -> _Floats:
    """Find ends of ranges that hold about the same number of values; equal values are never parted.

    Examples
    --------
    >>> equal_mass_edges(np.array([0.1, 0.2, 0.3, 0.4]), 2).tolist()
    [0.0, 0.2, 0.4]
    """
    upper = np.quantile(p, np.linspace(0, 1, bins + 1)[1:], method="inverted_cdf")
    return np.unique(np.concatenate([[0.0], upper]))


def _reliability(
    user: NDArray[np.int64], p: _Floats, y: _Floats, edges: _Floats, resamples: int, seed: int
) -> tuple[tuple[ReliabilityBin, ...], Estimate]:
    """Put pairs into bins, and resample users for the error of the bins."""
    n_users, n_bins = int(user.max()) + 1, max(1, len(edges) - 1)
    place = np.clip(np.searchsorted(edges, p, side="left") - 1, 0, n_bins - 1)
    counts = np.bincount(place, minlength=n_bins)
    told = np.bincount(place, p, minlength=n_bins)
    true = np.bincount(place, y, minlength=n_bins)
    bins = tuple(
        ReliabilityBin(
            float(edges[b]),
            float(edges[min(b + 1, len(edges) - 1)]),
            int(counts[b]),
            float(told[b] / counts[b]),
            float(true[b] / counts[b]),
        )
        for b in range(n_bins)
        if counts[b]
    )
    gap = np.bincount(user * n_bins + place, p - y, minlength=n_users * n_bins).reshape(n_users, n_bins)
    size = np.bincount(user, minlength=n_users)
    times = np.random.default_rng(seed).multinomial(n_users, np.full(n_users, 1 / n_users), size=resamples)
    errors = np.abs(times @ gap).sum(axis=1) / (times @ size)
    low, high = np.quantile(errors, _OUTSIDE)
    return bins, Estimate(float(np.abs(gap.sum(axis=0)).sum() / len(p)), float(low), float(high))
