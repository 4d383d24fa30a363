"""The whole catalogue ranked in two steps: a retriever proposes items, another system orders them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl

from trsr.errors import DataError
from trsr.evaluation.metrics import Protocol, expected_metrics, named
from trsr.evaluation.user_metrics import metrics_frame
from trsr.records import ITEM, SCORE, SPLIT, TARGET, USER

CEILING: Final = "Recall (retriever)"
"""Column: 1 where the target was retrieved. Its mean bounds every Recall of the second step."""

_OWN: Final = "own"
_ABOVE: Final = "above"
_TIED: Final = "tied"


def two_stage_metrics(targets: pl.DataFrame, retrieved: pl.DataFrame, ks: Sequence[int]) -> pl.DataFrame:
    """Measure the order in which the second step puts what the first one proposed.

    A target that was not retrieved counts 0 in every metric.

    Parameters
    ----------
    targets
        `USER`, `SPLIT` and `TARGET` of the users to be measured.
    retrieved
        `USER`, `ITEM` and `SCORE`: what was proposed, with the scores of the system that orders it.
        Other users are ignored.
    ks
        Cut-offs.

    Returns
    -------
    polars.DataFrame
        As `metrics_frame`: `CEILING`, ``Recall@3 (two-stage)`` and so on. `TIED` counts proposed
        items with the target's score, 0 where the target is missing.

    Raises
    ------
    DataError
        When a pair repeats, a score is no number, or a user has nothing retrieved.

    Examples
    --------
    >>> targets = pl.DataFrame({"user_id": ["u", "v"], "split": ["test"] * 2, "target": ["a", "z"]})
    >>> rows = {"user_id": ["u", "u", "v"], "item_id": ["a", "b", "a"], "score": [0.1, 0.9, 0.5]}
    >>> got = two_stage_metrics(targets, pl.DataFrame(rows), [1, 2])
    >>> got["Recall@2 (two-stage)"].to_list(), got[CEILING].to_list()
    ([1.0, 0.0], [1.0, 0.0])
    """
    mine = retrieved.select(USER, ITEM, pl.col(SCORE).cast(pl.Float64)).join(targets, on=USER, how="semi")
    _refuse(mine, mine.select(USER, ITEM).is_duplicated(), "retrieved items must differ, but repeat")
    bad = mine[SCORE].is_null() | mine[SCORE].is_nan()
    _refuse(mine, bad, "scores of retrieved items must be numbers, but hold NaN or null for")
    empty = targets.join(mine, on=USER, how="anti")
    if empty.height:
        message = (
            f"every user needs retrieved items, {empty.height:,} have none, such as {empty[USER][0]!r}; "
            "retrieve for the same users that are measured"
        )
        raise DataError(message)
    own = targets.select(USER, SPLIT, pl.col(TARGET).alias(ITEM)).join(mine, on=[USER, ITEM], how="left")
    placed = (
        own.select(USER, SPLIT, pl.col(SCORE).alias(_OWN))
        .join(mine, on=USER)
        .group_by(USER, SPLIT, _OWN)
        .agg(
            (pl.col(SCORE) > pl.col(_OWN)).sum().cast(pl.Int64).alias(_ABOVE),
            (pl.col(SCORE) == pl.col(_OWN)).sum().cast(pl.Int64).sub(1).alias(_TIED),
        )
        .sort(USER)
    )
    found = placed[_OWN].is_not_null().to_numpy()
    tied = np.where(found, placed[_TIED].to_numpy(), 0)
    metrics = expected_metrics(placed[_ABOVE].to_numpy(), tied, ks)
    counted = {name: np.where(found, values, 0.0) for name, values in metrics.items()}
    ceiling = {CEILING: found.astype(np.float64)}
    return metrics_frame(placed[USER], placed[SPLIT], tied, ceiling | named(counted, Protocol.TWO_STAGE))


def _refuse(pairs: pl.DataFrame, where: pl.Series, rule: str) -> None:
    broken = pairs.filter(where)
    if broken.height:
        user, item = broken.select(USER, ITEM).row(0)
        message = f"{rule} user {user!r}, item {item!r} ({broken.height:,} such pairs)"
        raise DataError(message)
