"""Groups of users that a mean over all hides: cold, rare and popular targets, repeats, short histories.

Every slice follows from training counts, the history and the target; no score takes
part. Slices describe results, and nothing may be chosen by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from trsr.evaluation.scoreboard import Result, summarise
from trsr.records import HISTORY, TARGET, USER

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
