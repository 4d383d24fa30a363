"""One system's scores against the frozen candidates: every metric, user by user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from trsr.errors import DataError
from trsr.evaluation.metrics import expected_metrics
from trsr.records import CANDIDATES, ITEM, SCORE, SPLIT, TARGET, USER

TIED: Final = "tied"
"""Column: how many other candidates share the target's score."""

_OWN: Final = "target_score"
_ABOVE: Final = "above"
_PAIR: Final = [USER, ITEM]


def user_metrics(candidates: pl.DataFrame, scores: pl.DataFrame, ks: Sequence[int]) -> pl.DataFrame:
    """Measure where each user's target stands among the user's candidates.

    The order of rows and of candidates has no influence.

    Parameters
    ----------
    candidates
        `USER`, `SPLIT`, `TARGET` and `CANDIDATES` of the users to be measured.
    scores
        `USER`, `ITEM` and `SCORE`; rows of other users are ignored.
    ks
        Cut-offs.

    Returns
    -------
    polars.DataFrame
        `USER`, `SPLIT`, `TIED`, then one column per metric, by rising user id.

    Raises
    ------
    DataError
        When a candidate is not scored exactly once, an item is scored that is no
        candidate, a score is no number, or a target is not among its candidates once.

    Examples
    --------
    >>> row = {"user_id": ["u"], "split": ["test"], "target": ["a"], "candidates": [["b", "a"]]}
    >>> scores = pl.DataFrame({"user_id": ["u", "u"], "item_id": ["a", "b"], "score": [0.5, 0.5]})
    >>> user_metrics(pl.DataFrame(row), scores, [1])["Recall@1"].to_list()
    [0.5]
    """
    pairs = candidates.select(USER, pl.col(CANDIDATES).alias(ITEM)).explode(ITEM)
    _refuse(pairs, pairs.is_duplicated(), "candidates name a pair more than once")
    mine = scores.select(*_PAIR, pl.col(SCORE).cast(pl.Float64)).join(candidates, on=USER, how="semi")
    _refuse(mine, mine.select(_PAIR).is_duplicated(), "scores must hold every candidate once, but repeat")
    _refuse(
        mine, mine[SCORE].is_null() | mine[SCORE].is_nan(), "scores must be numbers, but hold NaN or null for"
    )
    missing = pairs.join(mine, on=_PAIR, how="anti")
    _refuse(missing, None, "scores must hold every candidate once, but lack")
    extra = mine.join(pairs, on=_PAIR, how="anti")
    _refuse(extra, None, "scores must hold candidates only, but hold also")
    own = candidates.select(USER, SPLIT, pl.col(TARGET).alias(ITEM)).join(mine, on=_PAIR, how="left")
    _refuse(own, own[SCORE].is_null(), "candidates must hold the target, but don't for")
    own = own.select(USER, SPLIT, pl.col(SCORE).alias(_OWN))
    placed = (
        mine.join(own, on=USER)
        .group_by(USER, SPLIT)
        .agg(
            (pl.col(SCORE) > pl.col(_OWN)).sum().cast(pl.Int64).alias(_ABOVE),
            (pl.col(SCORE) == pl.col(_OWN)).sum().cast(pl.Int64).sub(1).alias(TIED),
        )
        .sort(USER)
    )
    metrics = expected_metrics(placed[_ABOVE].to_numpy(), placed[TIED].to_numpy(), ks)
    return placed.select(USER, SPLIT, TIED).with_columns(
        pl.Series(name, got) for name, got in metrics.items()
    )


def _refuse(pairs: pl.DataFrame, where: pl.Series | None, rule: str) -> None:
    """Raise when there are pairs `where` the rule is broken."""
    broken = pairs if where is None else pairs.filter(where)
    if broken.is_empty():
        return
    user, item = broken.select(_PAIR).row(0)
    message = (
        f"{rule} user {user!r}, item {item!r} ({broken.height:,} such pairs); "
        "score exactly the candidates of candidates.parquet"
    )
    raise DataError(message)
