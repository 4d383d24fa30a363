"""How sure figures are: bootstrap intervals, paired tests, spread over training seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from trsr.errors import DataError
from trsr.evaluation.metrics import TIED, metric_names
from trsr.records import PERSON, SPLIT, USER

_CELLS_A_BLOCK = 4_000_000
_OUTSIDE = (0.025, 0.975)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over users with the ends of its 95% interval."""

    mean: float
    low: float
    high: float


def bootstrap_means(
    values: NDArray[np.float64], resamples: int, seed: int, persons: NDArray[np.int64] | None = None
) -> list[Estimate]:
    """Compute means over users with 95% percentile intervals; all columns share the resamples.

    `values` has one row a user, one column a metric, ``(n_users, n_metrics)``; there is one estimate a
    column. Users are drawn anew, with replacement, `resamples` times. Where users have several rows,
    `persons` numbers them from 0, ``(n_rows,)``: means are over rows, and whoever is drawn comes with all
    of theirs. Raises `DataError` when there is no user.

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
    sums, rows = _summed(values, persons)
    n_users = len(sums)
    block = max(1, _CELLS_A_BLOCK // n_users)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        # How often each user is drawn is all that a mean needs to know about a resample.
        times = rng.multinomial(n_users, np.full(n_users, 1 / n_users), size=size)
        means[start : start + size] = times @ sums / (n_users if persons is None else (times @ rows)[:, None])
    low, high = np.quantile(means, _OUTSIDE, axis=0)
    return [Estimate(*map(float, row)) for row in zip(values.mean(axis=0), low, high, strict=True)]


def _summed(
    values: NDArray[np.float64], persons: NDArray[np.int64] | None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Add up each person's rows; give the sums, and the numbers of rows."""
    if persons is None:
        return values, np.ones(len(values), dtype=np.int64)
    rows = np.bincount(persons).astype(np.int64)
    sums = [np.bincount(persons, column, minlength=len(rows)) for column in values.T]
    return np.stack(sums, axis=1).astype(np.float64), rows


def persons_of(per_user: pl.DataFrame) -> NDArray[np.int64] | None:
    """Give numbers to the persons of a frame whose users have several rows; None where they have one."""
    if PERSON not in per_user.columns:
        return None
    return per_user[PERSON].rank("dense").to_numpy().astype(np.int64) - 1


FLIPS: Final = 10_000
"""Random sign patterns of a test; the least p is 1 / (FLIPS + 1)."""

_EQUAL: Final = 1e-12
"""Differences of at most this are rounding, not wins."""

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Two systems on the same users and candidates, by one metric.

    Parameters
    ----------
    difference
        Of `first` minus `second`, mean over users with its 95% interval (users resampled, both systems
        together).
    wins, losses, ties
        Users, or rows of users with several, for whom `first` is better, worse, equal.
    p
        Two-sided p of the sign-flip test.
    p_holm
        The same after Holm's correction over all tests of one call.
    """

    first: str
    second: str
    metric: str
    users: int
    difference: Estimate
    wins: int
    losses: int
    ties: int
    p: float
    p_holm: float


def paired_tests(
    systems: Mapping[str, pl.DataFrame],
    pairs: Sequence[tuple[str, str]],
    metrics: Sequence[str],
    *,
    resamples: int = 1000,
    flips: int = FLIPS,
    seed: int = 0,
) -> tuple[PairedTest, ...]:
    """Test pairs of systems, with Holm's correction over all pairs and metrics of this call.

    Tests stand metric by metric, in the order of `pairs`.

    Parameters
    ----------
    systems
        Name to metrics user by user, as `user_metrics` gives them (several seeds: `average_seeds`),
        all of the same users of one split.
    pairs
        Which to compare, see `with_reference` and `all_pairs`. All that is asked in one call is
        one family of tests, so give what is going to be read together, and nothing else.
    metrics
        Names of the metrics; one primary metric, if the answer is to be one sentence.
    resamples, flips
        Resamples of users for the intervals, and random sign patterns.

    Raises
    ------
    DataError
        When a system or metric is missing, or the systems are measured on different users.

    Examples
    --------
    >>> users = [f"u{n}" for n in range(20)]
    >>> better = pl.DataFrame({"user_id": users, "AUC": [0.9] * 20})
    >>> worse = pl.DataFrame({"user_id": users, "AUC": [0.5] * 20})
    >>> [test] = paired_tests({"a": better, "b": worse}, [("a", "b")], ["AUC"])
    >>> round(test.difference.mean, 3), test.wins, test.p < 0.001
    (0.4, 20, True)
    """
    values = {name: _values(name, systems, metrics) for name in {name for pair in pairs for name in pair}}
    persons = persons_of(next(iter(systems.values())).sort(USER)) if systems else None
    drafts = []
    for first, second in pairs:
        difference = values[first] - values[second]
        estimates = bootstrap_means(difference, resamples, seed, persons)
        for place, p in enumerate(sign_flip_p(_summed(difference, persons)[0], flips, seed)):
            column = difference[:, place]
            won, lost = int((column > _EQUAL).sum()), int((column < -_EQUAL).sum())
            drafts.append((place, first, second, len(column), estimates[place], won, lost, float(p)))
    drafts.sort(key=lambda draft: draft[0])
    adjusted = holm([draft[-1] for draft in drafts])
    return tuple(
        PairedTest(
            first=first,
            second=second,
            metric=metrics[place],
            users=users,
            difference=estimate,
            wins=won,
            losses=lost,
            ties=users - won - lost,
            p=p,
            p_holm=float(p_holm),
        )
        for (place, first, second, users, estimate, won, lost, p), p_holm in zip(
            drafts, adjusted, strict=True
        )
    )


def with_reference(names: Sequence[str], reference: str) -> list[tuple[str, str]]:
    """Pair the reference with every other system.

    Examples
    --------
    >>> with_reference(["a", "b", "c"], "b")
    [('b', 'a'), ('b', 'c')]
    """
    return [(reference, name) for name in names if name != reference]


def all_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pair every system with every other once.

    Examples
    --------
    >>> all_pairs(["a", "b", "c"])
    [('a', 'b'), ('a', 'c'), ('b', 'c')]
    """
    return list(combinations(names, 2))


def sign_flip_p(differences: ArrayLike, flips: int = FLIPS, seed: int = 0) -> _Floats:
    """Compute two-sided p of the paired sign-flip permutation test.

    It is ``(b + 1) / (flips + 1)`` per column, where ``b`` of the random sign patterns are as extreme as the
    data, ``(n_metrics,)``. `differences` has one row a user, one column a metric, ``(n_users, n_metrics)``;
    all columns share the flips. Raises `DataError` when there is no user.

    Examples
    --------
    No user differs, so every pattern is as extreme:

    >>> sign_flip_p(np.zeros((5, 1)), flips=99).tolist()
    [1.0]
    """
    table = np.asarray(differences, dtype=np.float64)
    if not len(table):
        message = "a paired test needs at least one user, got none; is the split empty?"
        raise DataError(message)
    seen = np.abs(table.sum(axis=0)) - _EQUAL * len(table)
    rng = np.random.default_rng(seed)
    extreme = np.zeros(table.shape[1], dtype=np.int64)
    block = max(1, _CELLS_A_BLOCK // len(table))
    for start in range(0, flips, block):
        size = min(block, flips - start)
        signs = 2.0 * rng.integers(0, 2, size=(size, len(table)), dtype=np.int8) - 1
        extreme += (np.abs(signs @ table) >= seen).sum(axis=0)
    return (extreme + 1) / (flips + 1)


def trend(
    differences: ArrayLike, by: ArrayLike, *, resamples: int = 1000, flips: int = FLIPS, seed: int = 0
) -> tuple[Estimate, float]:
    """Compute how much a difference grows from the user with the least of `by` to the one with the most.

    It is the least-squares slope over the users' ranks by `by`, from 0 to 1, equal values at the mean of
    their ranks; with its 95% interval over resamples of users, and the two-sided p of `flips` permutations of
    `by`. Both are ``(n_users,)``. Where all users have the same, nothing can be said: NaN, and a p of 1.

    Examples
    --------
    >>> slope, p = trend([0.0, 0.1, 0.2, 0.3] * 9, [1, 2, 3, 4] * 9)
    >>> round(slope.mean, 2), p < 0.001
    (0.39, True)
    """
    values = np.asarray(differences, dtype=np.float64)
    ranks = pl.Series(np.asarray(by)).rank("average").to_numpy()
    if not len(ranks) or ranks.min() == ranks.max():
        return Estimate(*[float("nan")] * 3), 1.0
    places = (ranks - 1) / (len(ranks) - 1)
    rng = np.random.default_rng(seed)
    sums = np.stack([places, values, places * values, places**2], axis=1)
    times = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), size=resamples)
    x, y, xy, xx = ((np.vstack([np.ones(len(values)), times]) @ sums) / len(values)).T
    with np.errstate(invalid="ignore"):  # a resample of one length has no slope
        slopes = (xy - x * y) / (xx - x * x)
    low, high = np.nanquantile(slopes[1:], _OUTSIDE)
    centred = values - values.mean()
    seen = abs(places @ centred) - _EQUAL
    extreme = sum(abs(rng.permutation(places) @ centred) >= seen for _ in range(flips))
    return Estimate(float(slopes[0]), float(low), float(high)), float((extreme + 1) / (flips + 1))


def holm(p: ArrayLike) -> _Floats:
    """Adjust p by Holm's step-down method: the i-th smallest of m is taken m - i + 1 times, and never falls.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    times = np.arange(len(values), 0, -1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * times), 1)
    return adjusted


def _values(name: str, systems: Mapping[str, pl.DataFrame], metrics: Sequence[str]) -> _Floats:
    if name not in systems:
        message = f"there is no system {name!r} to compare, but {', '.join(systems)}"
        raise DataError(message)
    frame = systems[name].sort(USER)
    missing = [metric for metric in metrics if metric not in frame.columns]
    if missing:
        message = (
            f"system {name!r} has no metric {missing[0]!r}; figures of another protocol can't be compared"
        )
        raise DataError(message)
    reference = next(iter(systems.values()))[USER].sort()
    if not frame[USER].equals(reference):
        message = (
            f"systems must be measured on the same users, but {name!r} is on {frame.height:,} and "
            f"{next(iter(systems))!r} on {len(reference):,}; use the same frozen candidates"
        )
        raise DataError(message)
    return frame.select(metrics).to_numpy().astype(np.float64)


@dataclass(frozen=True, slots=True)
class SeedSpread:
    """How a mean over users varies with the seed of the training.

    `means` has it at each seed, in the order given, `low` and `high` the least and the greatest of them, `sd`
    their standard deviation (n - 1 in the denominator), NaN with one seed.
    """

    means: tuple[float, ...]
    low: float
    high: float
    sd: float


def average_seeds(runs: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Average a system's metrics over seeds within each user, so that a user counts once.

    There is one frame a seed, each as `user_metrics` gives it, of the same users. The result has the same
    form; `TIED` is the share of seeds in which the target is tied.

    Raises
    ------
    DataError
        When there is no run, or the runs are of different users or metrics.

    Examples
    --------
    >>> one = pl.DataFrame({"user_id": ["u"], "split": ["test"], "tied": [0], "AUC": [0.5]})
    >>> average_seeds([one, one.with_columns(AUC=1.0)])["AUC"].to_list()
    [0.75]
    """
    first = _aligned(runs)
    names = metric_names(first)
    tied = pl.col(TIED).clip(0, 1).cast(pl.Float64)
    keys = [name for name in (USER, SPLIT, PERSON) if name in first.columns]
    return pl.concat([run.select(*keys, tied, *names) for run in runs]).group_by(keys).mean().sort(USER)


def seed_spread(runs: Sequence[pl.DataFrame]) -> dict[str, SeedSpread]:
    """Tell how each metric's mean over users varies with the seed, by the name of the metric.

    Runs are as for `average_seeds`.

    Examples
    --------
    >>> one = pl.DataFrame({"user_id": ["u"], "split": ["test"], "tied": [0], "AUC": [0.5]})
    >>> seed_spread([one, one.with_columns(AUC=1.0)])["AUC"].means
    (0.5, 1.0)
    """
    spread = {}
    for name in metric_names(_aligned(runs)):
        means = np.array([np.mean(run[name].to_numpy()) for run in runs])
        sd = float(means.std(ddof=1)) if len(means) > 1 else float("nan")
        spread[name] = SeedSpread(tuple(means.tolist()), float(means.min()), float(means.max()), sd)
    return spread


def _aligned(runs: Sequence[pl.DataFrame]) -> pl.DataFrame:
    if not runs:
        message = "an average over seeds needs at least one run, got none"
        raise DataError(message)
    users = runs[0][USER].sort()
    for place, run in enumerate(runs):
        if run.columns != runs[0].columns:
            message = f"seed number {place} has the columns {run.columns}, the first one {runs[0].columns}"
            raise DataError(message)
        if not run[USER].sort().equals(users):
            message = (
                f"seed number {place} is measured on {run.height:,} users, the first on {len(users):,}, and "
                "they are not the same; measure every seed on the same frozen candidates"
            )
            raise DataError(message)
    return runs[0]
