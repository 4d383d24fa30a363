"""One system trained with several seeds: averaged within the user first, its spread told apart.

The interval of a mean over users says how it would vary with other users; the spread
over seeds how it would vary with another training. Neither stands for the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from trsr.errors import DataError
from trsr.evaluation.user_metrics import TIED, metric_names
from trsr.records import SPLIT, USER


@dataclass(frozen=True, slots=True)
class SeedSpread:
    """How a mean over users varies with the seed of the training.

    Parameters
    ----------
    means
        The mean over users at each seed, in the order given.
    low, high
        The least and the greatest of them.
    sd
        Their standard deviation (n - 1 in the denominator); NaN with one seed.
    """

    means: tuple[float, ...]
    low: float
    high: float
    sd: float


def average_seeds(runs: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Average a system's metrics over seeds within each user, so that a user counts once.

    Parameters
    ----------
    runs
        One frame a seed, each as `user_metrics` gives it, of the same users.

    Returns
    -------
    polars.DataFrame
        Of the same form; `TIED` is the share of seeds in which the target is tied.

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
    return (
        pl.concat([run.select(USER, SPLIT, tied, *names) for run in runs])
        .group_by(USER, SPLIT)
        .mean()
        .sort(USER)
    )


def seed_spread(runs: Sequence[pl.DataFrame]) -> dict[str, SeedSpread]:
    """Tell how each metric's mean over users varies with the seed.

    Parameters
    ----------
    runs
        As for `average_seeds`.

    Returns
    -------
    dict[str, SeedSpread]
        By the name of the metric.

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
