"""What the plots count: p(yes) and places of the targets, and the lengths of histories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from trsr.records import CANDIDATES, HISTORY, ITEM, P_YES, SPLIT, TARGET, USER

_IS_TARGET: Final = pl.col(ITEM) == pl.col(TARGET)


def split_p_yes(
    scores: pl.DataFrame, candidates: pl.DataFrame, split: str
) -> tuple[Sequence[float], Sequence[float]]:
    """Give p(yes) of one split's targets, and of its negatives, in ascending order."""
    joined = _scored(scores, candidates, split)
    return (
        joined.filter(_IS_TARGET)[P_YES].sort().to_list(),
        joined.filter(~_IS_TARGET)[P_YES].sort().to_list(),
    )


def split_ranks(scores: pl.DataFrame, candidates: pl.DataFrame, split: str) -> tuple[Sequence[float], int]:
    """Give the targets' expected ranks in ascending order, and the largest number of candidates of a user."""
    ranked = _scored(scores, candidates, split).with_columns(
        pl.col(P_YES).rank("average", descending=True).over(USER).alias("rank"),
        pl.len().over(USER).alias("total"),
    )
    targets = ranked.filter(_IS_TARGET)
    return targets["rank"].sort().to_list(), max(targets["total"].to_list(), default=0)


def lengths_of(histories: pl.DataFrame) -> Sequence[int]:
    """Give the length of every user's history, in ascending order."""
    return histories[HISTORY].list.len().sort().to_list()


def _scored(scores: pl.DataFrame, candidates: pl.DataFrame, split: str) -> pl.DataFrame:
    frozen = (
        candidates.filter(pl.col(SPLIT) == split)
        .select(USER, TARGET, pl.col(CANDIDATES).alias(ITEM))
        .explode(ITEM)
    )
    return scores.select(USER, ITEM, P_YES).unique([USER, ITEM]).join(frozen, on=[USER, ITEM])
