"""Ranks in the whole catalogue, expected figures among sampled candidates, and two-stage ranking.

Items of the history leave the ranking, as nobody is shown them. The target stays
even when the user took it before: it has to be ranked to be measured. Such repeats
are easier than they look, because the items that compete with them for a place are
gone; see the slice ``repeat``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from trsr.errors import DataError
from trsr.evaluation.metrics import AUC, Metric, Protocol, expected_metrics, metrics_frame, named, refuse_nan
from trsr.records import ITEM, PERSON, SCORE, SPLIT, TARGET, USER

USERS_A_BLOCK: Final = 256
"""Users whose scores of the whole catalogue are held at a time."""

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CatalogueRanks:
    """Where each user's target stands in the whole catalogue; all are ``(n_users,)``, without history.

    Parameters
    ----------
    above
        Items with a higher score than the target.
    tied
        Other items with the target's score.
    others
        Items beside the target that were ranked: the catalogue without history and target. Uniform
        negatives are drawn from exactly these.
    """

    above: _Ints
    tied: _Ints
    others: _Ints


def rank_catalogue(
    score: Callable[[slice], ArrayLike],
    targets: ArrayLike,
    histories: Sequence[ArrayLike],
    users_a_block: int = USERS_A_BLOCK,
) -> CatalogueRanks:
    """Place every target in the whole catalogue, block by block, so that few scores are held at once.

    Parameters
    ----------
    score
        Gives the scores of a slice of the users, ``(n_users_of_the_slice, n_items)``.
    targets
        Each user's target as its place in the catalogue, ``(n_users,)``.
    histories
        Each user's history as places in the catalogue; may be empty, may repeat.
    users_a_block
        Users whose scores are asked for at a time.

    Raises
    ------
    DataError
        When a score is NaN, or the scores of a block have another number of users.

    Examples
    --------
    >>> table = np.array([[0.9, 0.8, 0.7, 0.7]])
    >>> rank_catalogue(lambda users: table[users], [3], [[0]])
    CatalogueRanks(above=array([1]), tied=array([1]), others=array([2]))
    """
    column = np.asarray(targets, dtype=np.int64)
    parts = []
    for start in range(0, len(column), users_a_block):
        users = slice(start, min(start + users_a_block, len(column)))
        parts.append(place_in_catalogue(score(users), column[users], histories[users]))
    if not parts:
        none = np.empty(0, dtype=np.int64)
        return CatalogueRanks(none, none, none)
    return CatalogueRanks(
        np.concatenate([part.above for part in parts]),
        np.concatenate([part.tied for part in parts]),
        np.concatenate([part.others for part in parts]),
    )


def place_in_catalogue(
    scores: ArrayLike, targets: ArrayLike, histories: Sequence[ArrayLike]
) -> CatalogueRanks:
    """Place targets of users whose scores ``(n_users, n_items)`` are all at hand; see `rank_catalogue`."""
    table = np.atleast_2d(np.asarray(scores))
    column = np.asarray(targets, dtype=np.int64)
    if not len(table) == len(column) == len(histories):
        message = (
            "scores, targets and histories must be of the same users, got "
            f"{len(table)}, {len(column)} and {len(histories)}"
        )
        raise DataError(message)
    refuse_nan(table)
    out = _in_history(histories, table.shape[1])
    out[np.arange(len(column)), column] = True
    own = np.take_along_axis(table, column[:, None], axis=1)
    # Few items are out: what they add is taken off again, which is faster than to mask the whole table.
    row, item = np.nonzero(out)
    left = out.sum(axis=1)
    above = (table > own).sum(axis=1) - np.bincount(row, table[row, item] > own[row, 0], len(table)).astype(
        int
    )
    tied = (table == own).sum(axis=1) - np.bincount(row, table[row, item] == own[row, 0], len(table)).astype(
        int
    )
    return CatalogueRanks(above=above, tied=tied, others=table.shape[1] - left)


def catalogue_metrics(ranks: CatalogueRanks, metrics: Iterable[Metric], rows: str = "") -> dict[str, _Floats]:
    """Compute metrics over the whole catalogue, per user; `rows` names the protocol where they aren't users.

    Returns
    -------
    dict[str, numpy.ndarray]
        ``Recall@10 (catalogue)`` and so on, each ``(n_users,)``.

    Examples
    --------
    >>> from trsr.evaluation.metrics import Recall
    >>> ranks = CatalogueRanks(np.array([9]), np.array([1]), np.array([99]))
    >>> float(catalogue_metrics(ranks, [Recall(k=10)])["Recall@10 (catalogue)"][0])
    0.5
    """
    computed = expected_metrics(ranks.above, ranks.tied, ranks.others, metrics)
    return named(computed, rows, Protocol.CATALOGUE)


def top_items(
    scores: ArrayLike, histories: Sequence[ArrayLike], n: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Retrieve each user's `n` items of highest score that are not in the history.

    They are places in the catalogue by falling score, ``(n_users, n)``. Nothing here knows the target, so
    that a target that repeats an item of the history is never retrieved. Equal scores are put into an order
    by chance, which `rng` draws, not by their places in the catalogue, which may tell how popular an item is.
    Scores are ``(n_users, n_items)``, histories are places in the catalogue.

    Raises
    ------
    DataError
        When a score is NaN, or a user has fewer than `n` items left.

    Examples
    --------
    >>> top_items([[0.9, 0.1, 0.5, 0.3]], [[0]], 2, np.random.default_rng(0)).tolist()
    [[2, 3]]
    """
    table = np.array(scores, dtype=np.float64, ndmin=2)
    refuse_nan(table)
    out = _in_history(histories, table.shape[1])
    left = table.shape[1] - out.sum(axis=1)
    if len(left) and left.min() < n:
        message = (
            f"{n} items can't be retrieved from a catalogue of {table.shape[1]:,} of which user number "
            f"{int(left.argmin())} has {int(left.min())} left; retrieve fewer"
        )
        raise DataError(message)
    order = rng.permutation(table.shape[1])
    shuffled, gone = table[:, order], out[:, order]
    # A score of -inf is a score; what is in the history goes behind even those.
    shuffled = np.where(np.isneginf(shuffled), np.finfo(np.float64).min, shuffled)
    shuffled[gone] = -np.inf
    best = np.argpartition(-shuffled, n - 1, axis=1)[:, :n]
    falling = np.argsort(-np.take_along_axis(shuffled, best, axis=1), axis=1, kind="stable")
    return order[np.take_along_axis(best, falling, axis=1)].astype(np.int64)


def _in_history(histories: Sequence[ArrayLike], n_items: int) -> NDArray[np.bool_]:
    """Mark each user's history, ``(n_users, n_items)``."""
    lists = [np.asarray(history, dtype=np.int64) for history in histories]
    marked = np.zeros((len(lists), n_items), dtype=bool)
    if lists:
        rows = np.repeat(np.arange(len(lists)), [len(history) for history in lists])
        marked[rows, np.concatenate(lists)] = True
    return marked


_ROWS_A_BLOCK: Final = 65_536


def sampled_expectation(
    ranks: CatalogueRanks, negatives: int, metrics: Sequence[Metric], rows: str = ""
) -> dict[str, _Floats]:
    """Compute the exact expectation of the sampled metrics under uniform negatives, per user.

    Parameters
    ----------
    negatives
        Negatives a user, drawn uniformly without replacement from all items but history and target.

    Returns
    -------
    dict[str, numpy.ndarray]
        ``Recall@3 (expected)`` and so on, each ``(n_users,)``. AUC does not depend on the number
        of negatives: its expectation is that of the whole catalogue.

    Raises
    ------
    DataError
        When a user has fewer items than `negatives` to draw from.

    Examples
    --------
    A target with one of two other items above it, and one negative: half of the draws beat it.

    >>> from trsr.evaluation.metrics import Recall
    >>> ranks = CatalogueRanks(np.array([1]), np.array([0]), np.array([2]))
    >>> float(sampled_expectation(ranks, 1, [Recall(k=1)])["Recall@1 (expected)"][0])
    0.5
    """
    if len(ranks.others) and ranks.others.min() < negatives:
        message = (
            f"{negatives} negatives can't be drawn from {int(ranks.others.min())} items, all that the "
            f"catalogue leaves for user number {int(ranks.others.argmin())}"
        )
        raise DataError(message)
    means = expected_metrics(ranks.above, ranks.tied, ranks.others, metrics)
    sampled = {metric.name: metric.table(negatives) for metric in metrics if not isinstance(metric, AUC)}
    gains = np.zeros((max(map(len, sampled.values()), default=0), len(sampled)))
    for column, table in enumerate(sampled.values()):
        gains[: len(table), column] = table
    for pool in np.unique(ranks.others) if sampled else ():
        users = np.flatnonzero(ranks.others == pool)
        first, last = ranks.above[users], ranks.above[users] + ranks.tied[users]
        lowest = int(first.min())
        above = np.arange(lowest, int(last.max()) + 1)
        expected = _expected_gains(above, int(pool), negatives, gains)
        for column, name in enumerate(sampled):
            total = np.concatenate([[0.0], np.cumsum(expected[:, column])])
            means[name][users] = (total[last + 1 - lowest] - total[first - lowest]) / (last - first + 1)
    return named(means, rows, Protocol.EXPECTED)


def _expected_gains(above: _Ints, pool: int, negatives: int, gains: _Floats) -> _Floats:
    """Take the mean gain over all draws, ``(n, n_metrics)``, a block of the numbers `above` at a time."""
    blocks = range(0, len(above), _ROWS_A_BLOCK)
    parts = (
        _hypergeometric(above[start : start + _ROWS_A_BLOCK], pool, negatives, len(gains)) @ gains
        for start in blocks
    )
    return np.concatenate([*parts])


def _hypergeometric(above: _Ints, pool: int, draws: int, ranks: int) -> _Floats:
    """Chances that 0, 1, ... ``ranks - 1`` of the drawn are above, ``(n, ranks)``."""
    factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, pool + 1)))])

    def log_choose(n: _Ints, k: _Ints) -> _Floats:
        possible = (k >= 0) & (k <= n)
        safe = np.where(possible, k, 0)
        value = factorial[n] - factorial[safe] - factorial[n - safe]
        return np.where(possible, value, -np.inf)

    r = above[:, None]
    x = np.broadcast_to(np.arange(ranks), (len(above), ranks))
    whole = log_choose(np.array([pool]), np.array([draws]))
    chances: _Floats = np.exp(log_choose(r, x) + log_choose(pool - r, draws - x) - whole)
    return chances


CEILING: Final = "Recall (retriever)"
"""Column: 1 where the target was retrieved. Its mean bounds every Recall of the second step."""

_OWN: Final = "own"
_ABOVE: Final = "above"
_TIED: Final = "tied"
_OTHERS: Final = "others"


def two_stage_metrics(
    targets: pl.DataFrame, retrieved: pl.DataFrame, metrics: Iterable[Metric], rows: str = ""
) -> pl.DataFrame:
    """Measure the order in which the second step puts what the first one proposed.

    A target that was not retrieved counts 0 in every metric.

    Parameters
    ----------
    targets
        `USER`, `SPLIT` and `TARGET` of the users to be measured; `PERSON` where users have several rows.
    retrieved
        `USER`, `ITEM` and `SCORE`: what was proposed, with the scores of the system that orders it.
        Other users are ignored.

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
    >>> from trsr.evaluation.metrics import Recall
    >>> targets = pl.DataFrame({"user_id": ["u", "v"], "split": ["test"] * 2, "target": ["a", "z"]})
    >>> rows = {"user_id": ["u", "u", "v"], "item_id": ["a", "b", "a"], "score": [0.1, 0.9, 0.5]}
    >>> got = two_stage_metrics(targets, pl.DataFrame(rows), [Recall(k=2)])
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
            pl.len().cast(pl.Int64).sub(1).alias(_OTHERS),
        )
        .sort(USER)
    )
    found = placed[_OWN].is_not_null().to_numpy()
    tied = np.where(found, placed[_TIED].to_numpy(), 0)
    above, others = placed[_ABOVE].to_numpy(), placed[_OTHERS].to_numpy()
    # Among retrieved items, a chance to beat one of them says nothing.
    wanted = [metric for metric in metrics if not isinstance(metric, AUC)]
    computed = expected_metrics(above, tied, others, wanted)
    counted = {name: np.where(found, values, 0.0) for name, values in computed.items()}
    told = {CEILING: found.astype(np.float64)} | named(counted, rows, Protocol.TWO_STAGE)
    frame = metrics_frame(placed[USER], placed[SPLIT], tied, told)
    persons = targets.select(USER, PERSON) if PERSON in targets.columns else None
    return frame if persons is None else frame.join(persons, on=USER, maintain_order="left")


def _refuse(pairs: pl.DataFrame, where: pl.Series, rule: str) -> None:
    broken = pairs.filter(where)
    if broken.height:
        user, item = broken.select(USER, ITEM).row(0)
        message = f"{rule} user {user!r}, item {item!r} ({broken.height:,} such pairs)"
        raise DataError(message)
