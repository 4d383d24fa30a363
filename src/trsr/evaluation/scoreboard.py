"""Systems in one table, each metric with its interval, over all users and over slices of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from trsr.config.data import CandidateRule
from trsr.config.ranking import Evaluation
from trsr.errors import DataError
from trsr.evaluation.metrics import TIED, metric_names, metrics_at, user_metrics
from trsr.evaluation.statistics import Estimate, bootstrap_means, persons_of
from trsr.records import HISTORY, SPLIT, TARGET, USER, Split


@dataclass(frozen=True, slots=True)
class Result:
    """One system on one split.

    Parameters
    ----------
    tie_rate
        Share of users whose target has the same score as another candidate.
    metrics
        ``Recall@3`` and so on, and ``AUC``, each with its 95% interval.
    """

    users: int
    tie_rate: float
    metrics: Mapping[str, Estimate]


def evaluate(
    candidates: pl.DataFrame, scores: pl.DataFrame, evaluation: Evaluation, seed: int
) -> dict[str, Result]:
    """Measure one system on every split that the candidates hold, by the name of the split.

    Candidates have `USER`, `SPLIT`, `TARGET` and `CANDIDATES` of the users to be measured; scores have
    `USER`, `ITEM` and `SCORE`. Raises `DataError` when they don't fit; see `user_metrics`.
    """
    per_user = user_metrics(candidates, scores, metrics_at(evaluation.ks, evaluation.metrics))
    return {
        str(split): summarise(rows, evaluation.bootstrap, seed)
        for (split,), rows in per_user.sort(SPLIT, USER).group_by(SPLIT, maintain_order=True)
    }


def summarise(per_user: pl.DataFrame, resamples: int, seed: int) -> Result:
    """Take the mean over users last, with intervals from resamples of users.

    `per_user` is of one split, as `user_metrics` gives it; `TIED` may be a share of seeds. Where users have
    several rows, the mean is over rows, and the intervals are over users; see `bootstrap_means`.
    """
    names = metric_names(per_user)
    estimates = bootstrap_means(per_user.select(names).to_numpy(), resamples, seed, persons_of(per_user))
    tied = float(per_user[TIED].clip(0, 1).sum())
    return Result(per_user.height, tied / per_user.height, dict(zip(names, estimates, strict=True)))


def to_json(systems: Mapping[str, Mapping[str, Result]], rule: CandidateRule) -> dict[str, Any]:
    """Put results, by system and split, into the form of ``metrics.json``.

    `rule` says how the candidates were drawn.

    Examples
    --------
    >>> result = Result(2, 0.0, {"Recall@3": Estimate(0.5, 0.0, 1.0)})
    >>> to_json({"random": {"test": result}}, CandidateRule())["systems"]["random"]["test"]["metrics"]
    {'Recall@3': {'mean': 0.5, 'low': 0.0, 'high': 1.0}}
    """
    return {
        "sampler": rule.sampler,
        "negatives": rule.negatives,
        "systems": {
            name: {split: asdict(result) for split, result in by_split.items()}
            for name, by_split in systems.items()
        },
    }


def choose(systems: Mapping[str, Mapping[str, Result]], metric: str) -> str:
    """Return the system whose mean of `metric`, such as ``NDCG@10``, is highest on the validation split.

    Systems are names to results by split, as `evaluate` gives them. Results of other splits may be there and
    are not read. Of equal means the first in the order of `systems` is taken.

    Raises
    ------
    DataError
        When there is no system, or one lacks the validation split or the metric.

    Examples
    --------
    >>> from trsr.evaluation.statistics import Estimate
    >>> def of(mean): return Result(9, 0.0, {"NDCG@10": Estimate(mean, mean, mean)})
    >>> first = {"valid": of(0.4), "test": of(0.9)}
    >>> choose({"a": first, "b": {"valid": of(0.5), "test": of(0.1)}}, "NDCG@10")
    'b'
    """
    if not systems:
        message = "there is no system to choose from"
        raise DataError(message)
    means = {}
    for name, by_split in systems.items():
        result = by_split.get(Split.VALID.value)
        if result is None:
            message = (
                f"system {name!r} was not measured on the validation split, so it can't be chosen or not"
            )
            raise DataError(message)
        if metric not in result.metrics:
            held = ", ".join(result.metrics) or "none"
            message = f"system {name!r} has no {metric} on the validation split, but {held}"
            raise DataError(message)
        means[name] = result.metrics[metric].mean
    return max(means, key=means.__getitem__)


FEW_USERS: Final = 20
"""Slices with fewer users are marked: their intervals say little."""

RULES: Final = {
    "cold": "the target stands in no training history, background included",
    "rare": "the target is among the least taken items, at most a third of all training interactions",
    "middling": "the target is taken more than the rare ones and less than the popular ones",
    "popular": "the target is among the most taken items, a third of training interactions or more",
    "repeat": "the target is in the user's history",
    "new": "the target is not in the user's history",
    "short history": "the history is not longer than the median",
    "long history": "the history is longer than the median",
}
"""Name of every slice to who belongs to it, with the cut-offs that are taken when none are stated."""

_COUNT: Final = "count"
_LENGTH: Final = "length"


@dataclass(frozen=True, slots=True)
class SliceCuts:
    """Where slices end; all ends belong to the lower slice.

    `rare` and `middling` are the largest training counts of such targets, what is above is popular; `short`
    is the longest history that is short.
    """

    rare: int
    middling: int
    short: int


@dataclass(frozen=True, slots=True)
class SliceResult:
    """One system on one slice.

    `few` is true below `FEW_USERS`: not to be leant on. `result` is None when there is no user.
    """

    users: int
    few: bool
    result: Result | None


def default_cuts(histories: pl.DataFrame, counts: ArrayLike) -> SliceCuts:
    """Cut training interactions into thirds by the count of their item, and histories at their median.

    Items of one count stay together: the rare ones make up at most a third of all interactions, they and the
    middling ones at most two thirds. Thirds of interactions, not of items: in a catalogue with a long tail
    two thirds of the items are taken once or twice and hardly ever a target.

    `histories` has `HISTORY` of the users to be measured; `counts` says how often training users took each
    item, ``(n_items,)``.

    Examples
    --------
    >>> default_cuts(pl.DataFrame({"history": [["a"], ["a", "b"], ["c"] * 9]}), [9, 5, 2, 1, 1, 0])
    SliceCuts(rare=2, middling=5, short=2)
    """
    taken = np.sort(np.asarray(counts, dtype=np.int64))
    rare, middling = (_count_within(taken, share) for share in (1 / 3, 2 / 3))
    lengths = histories[HISTORY].list.len().to_numpy()
    short = int(np.floor(np.median(lengths))) if len(lengths) else 0
    return SliceCuts(rare, middling, short)


def slices(
    histories: pl.DataFrame, item_ids: Sequence[str], counts: ArrayLike, cuts: SliceCuts | None = None
) -> pl.DataFrame:
    """Say for every user which slices they belong to.

    Parameters
    ----------
    histories
        `USER`, `HISTORY` and `TARGET` of the users to be measured.
    item_ids
        The catalogue, ``(n_items,)``.
    counts
        How often training users, background included, took each item, in the order of `item_ids`; see
        `trsr.data.candidates.training_counts`.
    cuts
        Where slices end; None for `default_cuts`.

    Returns
    -------
    polars.DataFrame
        `USER`, then one Boolean column per name of `RULES`, by rising user id.

    Examples
    --------
    >>> rows = {"user_id": ["u", "v"], "history": [["a"], ["a", "b"]], "target": ["c", "a"]}
    >>> got = slices(pl.DataFrame(rows), ["a", "b", "c"], [5, 1, 0])
    >>> got.filter("cold")["user_id"].to_list(), got.filter("repeat")["user_id"].to_list()
    (['u'], ['v'])
    """
    at = cuts or default_cuts(histories, counts)
    numbers: NDArray[np.int64] = np.asarray(counts, dtype=np.int64)
    catalogue = pl.DataFrame({TARGET: pl.Series(item_ids, dtype=pl.String), _COUNT: numbers})
    count, length = pl.col(_COUNT), pl.col(_LENGTH)
    repeats = pl.col(HISTORY).list.contains(pl.col(TARGET))
    return (
        histories.select(USER, HISTORY, TARGET)
        .join(catalogue, on=TARGET, how="left")
        .with_columns(count.fill_null(0), pl.col(HISTORY).list.len().alias(_LENGTH))
        .select(
            USER,
            (count == 0).alias("cold"),
            ((count > 0) & (count <= at.rare)).alias("rare"),
            ((count > 0) & (count > at.rare) & (count <= at.middling)).alias("middling"),
            ((count > 0) & (count > at.middling)).alias("popular"),
            repeats.alias("repeat"),
            (~repeats).alias("new"),
            (length <= at.short).alias("short history"),
            (length > at.short).alias("long history"),
        )
        .sort(USER)
    )


def slice_results(
    per_user: pl.DataFrame, membership: pl.DataFrame, resamples: int, seed: int
) -> dict[str, SliceResult]:
    """Measure one system on every slice, by the slice's name, empty slices included.

    `per_user` is as `user_metrics` gives it, of one split; `membership` is as `slices` gives it, where users
    without metrics are ignored. 95% intervals come from resamples of users.
    """
    found = {}
    for name in membership.columns:
        if name == USER:
            continue
        rows = per_user.join(membership.filter(pl.col(name)), on=USER, how="semi").sort(USER)
        result = summarise(rows, resamples, seed) if rows.height else None
        found[name] = SliceResult(rows.height, rows.height < FEW_USERS, result)
    return found


def _count_within(taken: NDArray[np.int64], share: float) -> int:
    """Largest count whose items, with all less taken ones, make up at most `share` of all interactions."""
    levels, items = np.unique(taken, return_counts=True)
    mass = np.cumsum(levels * items)
    within = levels[mass <= share * mass[-1]] if len(mass) else levels
    return int(within.max(initial=0))
