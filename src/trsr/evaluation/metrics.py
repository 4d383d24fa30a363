"""Recall, MRR, NDCG and AUC of one relevant item, per user, in expectation over the order of equal scores.

With one relevant item at rank ``r`` every metric at cut-off K is a gain ``g(r)``
for ``r <= K`` and 0 beyond: 1 for Recall, ``1 / r`` for MRR, ``1 / log2(r + 1)``
for NDCG. When the target shares its score with ``t`` others and ``b`` are above,
its rank is any of ``b + 1 ... b + t + 1`` with equal chance, and the metric is the
mean gain over these ranks. It is not the gain at the mean rank, which would turn
two tied candidates at the cut-off into all or nothing.

AUC is the share of other candidates that stand below the target, those with its
score counted half: the chance that the target beats one drawn at random.

A figure among sampled candidates, one in the whole catalogue and one of a two-stage
ranking differ in kind. All but the first carry their `Protocol` in the metric's
name, so that they can't end up in one column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from trsr.errors import DataError
from trsr.records import CANDIDATES, ITEM, SCORE, SPLIT, TARGET, USER

FAMILIES: Final = ("Recall", "MRR", "NDCG")
"""Names of the metrics that have cut-offs, without these."""

AUC: Final = "AUC"
"""Name of the metric without a cut-off."""

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]


class Protocol(StrEnum):
    """Among what the target was ranked, where not among the frozen candidates."""

    CATALOGUE = "catalogue"
    """All items but the history."""
    EXPECTED = "expected"
    """The frozen candidates' figure in exact expectation over all draws of uniform negatives."""
    TWO_STAGE = "two-stage"
    """What a retriever proposed; a target that it missed counts 0."""


def named(metrics: Mapping[str, _Floats], protocol: Protocol) -> dict[str, _Floats]:
    """Say in the metrics' names how they were measured.

    Examples
    --------
    >>> list(named({"Recall@3": np.ones(1)}, Protocol.CATALOGUE))
    ['Recall@3 (catalogue)']
    """
    return {f"{name} ({protocol})": values for name, values in metrics.items()}


def plain_name(metric: str) -> str:
    """Return a metric's name without its protocol, for records that say elsewhere how it was measured.

    Examples
    --------
    >>> plain_name("Recall@3 (catalogue)"), plain_name("AUC")
    ('Recall@3', 'AUC')
    """
    return metric.partition(" (")[0]


def place_target(scores: ArrayLike, target: ArrayLike) -> tuple[_Ints, _Ints]:
    """Count the candidates above the target and those equal to it.

    Parameters
    ----------
    scores
        Scores of all candidates, the target among them, ``(n_users, n_candidates)``.
    target
        Column of the target per user, ``(n_users,)``.

    Returns
    -------
    tuple[numpy.ndarray, numpy.ndarray]
        Candidates with a higher score, and other candidates with the same score,
        both ``(n_users,)``.

    Raises
    ------
    DataError
        When a score is NaN.

    Examples
    --------
    >>> above, tied = place_target([[0.9, 0.5, 0.5], [0.1, 0.2, 0.3]], [2, 2])
    >>> above.tolist(), tied.tolist()
    ([1, 0], [1, 0])
    """
    table = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    column = np.asarray(target, dtype=np.int64)
    refuse_nan(table)
    own = np.take_along_axis(table, column[:, None], axis=1)
    return (table > own).sum(axis=1), (table == own).sum(axis=1) - 1


def refuse_nan(scores: _Floats) -> None:
    """Raise `DataError` when a score of ``(n_users, n_items)`` is NaN, naming the user's row."""
    if np.isnan(scores).any():
        row = int(np.argwhere(np.isnan(scores))[0, 0])
        message = f"scores must be numbers, got NaN for user number {row}; a NaN has no place in a ranking"
        raise DataError(message)


def rank_gains(ks: Sequence[int]) -> dict[str, _Floats]:
    """Give every metric's gain of the target's rank.

    Parameters
    ----------
    ks
        Cut-offs.

    Returns
    -------
    dict[str, numpy.ndarray]
        ``Recall@3`` and so on, family by family, each ``(max(ks),)``: the gain at rank 1, 2, ...;
        beyond it all gains are 0.

    Examples
    --------
    >>> rank_gains([1, 3])["MRR@1"].tolist()
    [1.0, 0.0, 0.0]
    """
    ranks = np.arange(1, max(ks, default=0) + 1)
    gains = dict(zip(FAMILIES, (np.ones(len(ranks)), 1 / ranks, 1 / np.log2(ranks + 1)), strict=True))
    return {f"{family}@{k}": np.where(ranks <= k, gain, 0.0) for family, gain in gains.items() for k in ks}


def expected_metrics(above: ArrayLike, tied: ArrayLike, ks: Sequence[int]) -> dict[str, _Floats]:
    """Compute every metric that has a cut-off, per user.

    Parameters
    ----------
    above
        Candidates with a higher score than the target, ``(n_users,)``.
    tied
        Other candidates with the target's score, ``(n_users,)``.
    ks
        Cut-offs.

    Returns
    -------
    dict[str, numpy.ndarray]
        ``Recall@3`` and so on, family by family, each ``(n_users,)``.

    Examples
    --------
    A constant scorer over 21 candidates has the target in the first 3 with chance 3 / 21:

    >>> float(expected_metrics([0], [20], [3])["Recall@3"][0]) == 3 / 21
    True
    """
    first = np.asarray(above, dtype=np.int64)
    last = first + np.asarray(tied, dtype=np.int64) + 1
    metrics = {}
    for name, gain in rank_gains(ks).items():
        total = np.concatenate([[0.0], np.cumsum(gain)])
        within = total[np.minimum(last, len(gain))] - total[np.minimum(first, len(gain))]
        metrics[name] = within / (last - first)
    return metrics


def expected_auc(above: ArrayLike, tied: ArrayLike, others: ArrayLike) -> _Floats:
    """Compute the AUC of one target, per user: ``(others - above - tied / 2) / others``.

    Parameters
    ----------
    above
        Candidates with a higher score than the target, ``(n_users,)``.
    tied
        Other candidates with the target's score, ``(n_users,)``.
    others
        Candidates beside the target, ``(n_users,)``, or one number for all.

    Returns
    -------
    numpy.ndarray
        ``(n_users,)``; one half where there is nothing beside the target to compare with.

    Examples
    --------
    >>> expected_auc([0, 1, 0], [0, 0, 20], 20).tolist()
    [1.0, 0.95, 0.5]
    """
    count = np.asarray(others, dtype=np.float64)
    below = count - np.asarray(above, dtype=np.float64) - np.asarray(tied, dtype=np.float64) / 2
    return np.where(count > 0, below / np.maximum(count, 1), 0.5)


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

    All are ``(n_users,)``; `tied` says how many others share the target's score. The frame has `USER`,
    `SPLIT`, `TIED`, then one column per metric, by rising user id.

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
