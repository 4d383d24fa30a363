"""The candidates of every user: the target and items that the user did not take, in shuffled order."""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.config.data import CandidateRule
from trsr.data.popularity import training_counts
from trsr.data.user_random import uniforms, user_keys
from trsr.errors import DataError
from trsr.progress import Progress
from trsr.records import CANDIDATES, HISTORY, ITEM, SPLIT, TARGET, USER

SEED: Final = "seed"
SAMPLER: Final = "sampler"

_USERS_A_CHUNK: Final = 16_384
_NONE: Final = -1

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]


def draw_candidates(
    histories: pl.DataFrame,
    items: pl.DataFrame,
    rule: CandidateRule,
    seed: int,
    background: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Draw negatives for every user and shuffle the target among them.

    Negatives are drawn one after the other without replacement, uniformly or in
    proportion to training count + 1, and are never the target nor an item of the
    history. A user's draw depends on the user's id, history and target, on the
    catalogue, the weights and the seed, and on no other row.

    Parameters
    ----------
    histories
        `USER`, `SPLIT`, `HISTORY` and `TARGET`.
    items
        The catalogue; its order does not matter.
    rule
        How many negatives, and how they are drawn.
    seed
        The run's seed.
    background
        Histories that count for popularity beside those of training users.

    Returns
    -------
    polars.DataFrame
        `USER`, `SPLIT`, `TARGET`, `CANDIDATES` (with the target), `SEED` and `SAMPLER`.

    Raises
    ------
    DataError
        When the catalogue is too small for a user's negatives.
    """
    ids = items[ITEM].unique().sort()
    counts = training_counts(histories, ids.to_list(), background)
    weights = (counts + 1 if rule.sampler == "popularity" else np.ones_like(counts)).astype(np.float64)
    taken = _taken(histories, ids)
    _refuse_small_catalogue(histories[USER], taken, len(ids), rule.negatives)
    parts = []
    with Progress("drawing candidates", histories.height, "users") as progress:
        for start in range(0, histories.height, _USERS_A_CHUNK):
            users = histories[USER][start : start + _USERS_A_CHUNK]
            part = taken[start : start + _USERS_A_CHUNK]
            parts.append(_draw(users, part, weights, rule.negatives, seed))
            progress.advance(len(users))
    drawn = np.concatenate(parts) if parts else np.empty((0, rule.negatives + 1), dtype=np.int64)
    named = ids.gather(drawn.ravel()).reshape((-1, rule.negatives + 1)).arr.to_list()
    return histories.select(USER, SPLIT, TARGET).with_columns(
        named.alias(CANDIDATES),
        pl.lit(seed, dtype=pl.Int64).alias(SEED),
        pl.lit(rule.sampler).alias(SAMPLER),
    )


def _taken(histories: pl.DataFrame, ids: pl.Series) -> _Ints:
    """Find the places in `ids` of every user's target, then history; the rest of a row is `_NONE`."""
    lists = histories.select(pl.concat_list(TARGET, HISTORY).alias(ITEM)).with_row_index("row")
    places = pl.DataFrame({ITEM: ids}).with_row_index("place")
    flat = lists.explode(ITEM).join(places, on=ITEM, how="left", maintain_order="left")
    unknown = flat.filter(pl.col("place").is_null())
    if unknown.height:
        message = f"histories name {unknown[ITEM].n_unique():,} items that the item table lacks, such as "
        raise DataError(message + repr(unknown[ITEM][0]))
    row = flat["row"].to_numpy().astype(np.int64)
    lengths = np.bincount(row, minlength=histories.height)
    column = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    taken = np.full((histories.height, int(lengths.max(initial=0))), _NONE, dtype=np.int64)
    taken[row, column] = flat["place"].to_numpy()
    return taken


def _refuse_small_catalogue(users: pl.Series, taken: _Ints, n_items: int, negatives: int) -> None:
    distinct = (_first_seen(taken) & (taken != _NONE)).sum(axis=1)
    short = np.flatnonzero(n_items - distinct < negatives)
    if len(short):
        worst = short[np.argmax(distinct[short])]
        message = (
            f"candidates.negatives is {negatives}, but the catalogue of {n_items:,} items leaves only "
            f"{n_items - distinct[worst]} that user {users[int(worst)]!r} has not taken ({len(short):,} such "
            "users); lower candidates.negatives or history.max, or give more items"
        )
        raise DataError(message)


def _draw(users: pl.Series, taken: _Ints, weights: _Floats, negatives: int, seed: int) -> _Ints:
    """Draw and shuffle the candidates of some users, ``(n_users, negatives + 1)``, target among them."""
    n_draws = 2 * negatives + 16
    edges = np.cumsum(weights)
    points = uniforms(user_keys(users, seed, "negatives"), n_draws) * edges[-1]
    draws = np.minimum(np.searchsorted(edges, points, side="right"), len(weights) - 1)
    # Leaving out what was seen before turns draws with replacement into draws without.
    new = _first_seen(np.concatenate([taken, draws], axis=1))[:, taken.shape[1] :]
    place = np.cumsum(new, axis=1) - 1
    row, column = np.nonzero(new & (place < negatives))
    drawn = np.full((len(users), negatives), _NONE, dtype=np.int64)
    drawn[row, place[row, column]] = draws[row, column]
    unfinished = np.flatnonzero(drawn[:, -1] == _NONE)
    for user, key in zip(unfinished, user_keys(users.gather(unfinished), seed, "rest"), strict=True):
        _fill(drawn[user], taken[user], weights, uniforms(np.array([key]), len(weights))[0])
    candidates = np.concatenate([taken[:, :1], drawn], axis=1)
    order = np.argsort(uniforms(user_keys(users, seed, "order"), negatives + 1), axis=1)
    return np.take_along_axis(candidates, order, axis=1)


def _fill(drawn: _Ints, taken: _Ints, weights: _Floats, numbers: _Floats) -> None:
    """Draw one user's missing negatives, in place: the first of exponential clocks ring first."""
    clocks = -np.log1p(-numbers) / weights
    clocks[np.concatenate([taken[taken != _NONE], drawn[drawn != _NONE]])] = np.inf
    missing = int((drawn == _NONE).sum())
    drawn[drawn == _NONE] = np.argsort(clocks, kind="stable")[:missing]


def _first_seen(places: _Ints) -> NDArray[np.bool_]:
    """Mark in every row the first occurrence of each value."""
    order = np.argsort(places, axis=1, kind="stable")
    ranked = np.take_along_axis(places, order, axis=1)
    first = np.ones(places.shape, dtype=bool)
    np.put_along_axis(first, order[:, 1:], ranked[:, 1:] != ranked[:, :-1], axis=1)
    return first
