"""One system's scores against the frozen candidates: every metric, user by user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from trsr.errors import DataError
from trsr.evaluation.metrics import AUC, expected_auc, expected_metrics
from trsr.records import CANDIDATES, ITEM, SCORE, SPLIT, TARGET, USER

TIED: Final = "tied"
"""Column: how many other candidates share the target's score."""

_OWN: Final = "target_score"
_ABOVE: Final = "above"
_OTHERS: Final = "others"
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
        `USER`, `SPLIT`, `TIED`, then one column per metric (``Recall@3`` and so on, ``AUC`` last), by
        rising user id.

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
            pl.len().cast(pl.Int64).sub(1).alias(_OTHERS),
        )
        .sort(USER)
    )
    above, tied = placed[_ABOVE].to_numpy(), placed[TIED].to_numpy()
    metrics = expected_metrics(above, tied, ks)
    metrics[AUC] = expected_auc(above, tied, placed[_OTHERS].to_numpy())
    return metrics_frame(placed[USER], placed[SPLIT], tied, metrics)


def metrics_frame(
    users: Sequence[str] | pl.Series,
    splits: Sequence[str] | pl.Series,
    tied: ArrayLike,
    metrics: Mapping[str, NDArray[np.float64]],
) -> pl.DataFrame:
    """Put metrics that were computed user by user into the frame that all statistics work on.

    Parameters
    ----------
    users, splits
        Whose metrics they are, ``(n_users,)``.
    tied
        How many others share the target's score, ``(n_users,)``.
    metrics
        Name to values, each ``(n_users,)``.

    Returns
    -------
    polars.DataFrame
        `USER`, `SPLIT`, `TIED`, then one column per metric, by rising user id.

    Examples
    --------
    >>> metrics_frame(["v", "u"], ["test", "test"], [0, 1], {"AUC": np.array([1.0, 0.5])})["AUC"].to_list()
    [0.5, 1.0]
    """
    columns = [pl.Series(name, values, dtype=pl.Float64) for name, values in metrics.items()]
    return pl.DataFrame(
        [
            pl.Series(USER, users, dtype=pl.String),
            pl.Series(SPLIT, splits, dtype=pl.String),
            pl.Series(TIED, np.asarray(tied)),
            *columns,
        ]
    ).sort(USER)


def metric_names(per_user: pl.DataFrame) -> list[str]:
    """Names of the metrics in a frame of `metrics_frame`'s form."""
    return [name for name in per_user.columns if name not in (USER, SPLIT, TIED)]


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
