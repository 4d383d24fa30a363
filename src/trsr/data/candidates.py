"""The candidates of every user: the target and negatives, uniform or by popularity, in shuffled order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.config.data import CandidateRule
from trsr.errors import DataError
from trsr.progress import Progress
from trsr.records import CANDIDATES, HISTORY, ITEM, ITEMS, SPLIT, TARGET, USER, Split

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
    catalogue, the weights and the seed, and on no other row, nor on the order of items.
    Background histories count for popularity beside those of training users.

    Takes `USER`, `SPLIT`, `HISTORY` and `TARGET`, and gives `USER`, `SPLIT`, `TARGET`,
    `CANDIDATES` (with the target), `SEED` and `SAMPLER`. Raises DataError when the
    catalogue is too small for a user's negatives.
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


def training_counts(
    histories: pl.DataFrame, item_ids: Sequence[str], background: pl.DataFrame | None = None
) -> NDArray[np.int64]:
    """Count items over histories and targets of training users, and over background histories.

    Users of the other splits count nothing, so that no target that is to be predicted shows
    in the counts. Takes `SPLIT`, `HISTORY` and `TARGET`, and `ITEMS` of users who only ever
    train (see `Prepared.background`); counts are in the order of `item_ids`, ``(n_items,)``.

    Examples
    --------
    >>> rows = {"split": ["train", "test"], "history": [["a", "b"], ["a", "b"]], "target": ["c", "b"]}
    >>> training_counts(pl.DataFrame(rows), ["a", "b", "c", "d"]).tolist()
    [1, 1, 1, 0]
    """
    taken = histories.filter(pl.col(SPLIT) == Split.TRAIN).select(
        pl.concat_list(HISTORY, TARGET).explode().alias(ITEM)
    )
    if background is not None:
        taken = pl.concat([taken, background.select(pl.col(ITEMS).explode().alias(ITEM))])
    counts = taken.group_by(ITEM).len("count")
    catalogue = pl.DataFrame({ITEM: pl.Series(item_ids, dtype=pl.String)})
    joined = catalogue.join(counts, on=ITEM, how="left", maintain_order="left")
    return joined["count"].fill_null(0).cast(pl.Int64).to_numpy()


Keys = NDArray[np.uint64]
Floats = NDArray[np.float64]

_STEP: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2: Final = np.uint64(0x94D049BB133111EB)


def user_keys(users: Iterable[str], seed: int, purpose: str) -> Keys:
    """Hash every user id with the seed and what the number is for: 64 random bits per user, ``(n_users,)``.

    The hash is BLAKE2b, so that keys are the same on every machine and in every version. Keys of
    different purposes, each named by a word, are independent.

    Examples
    --------
    >>> bool(user_keys(["ann", "bob"], 0, "split")[1] == user_keys(["bob"], 0, "split")[0])
    True
    """
    start = blake2b(f"{purpose}\x1f{seed}\x1f".encode(), digest_size=8)
    digests = bytearray()
    for user in users:
        digest = start.copy()
        digest.update(user.encode())
        digests += digest.digest()
    return np.frombuffer(bytes(digests), dtype="<u8").astype(np.uint64)


def uniforms(keys: Keys, count: int) -> Floats:
    """Draw `count` numbers of [0, 1) per key, ``(n_users, count)``.

    The generator is SplitMix64, started at each key: Steele, Lea and Flood, Fast splittable
    pseudorandom number generators, OOPSLA 2014.
    """
    bits = keys[:, None] + np.arange(1, count + 1, dtype=np.uint64) * _STEP
    bits = (bits ^ (bits >> np.uint64(30))) * _MIX_1
    bits = (bits ^ (bits >> np.uint64(27))) * _MIX_2
    bits = bits ^ (bits >> np.uint64(31))
    fractions: Floats = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return fractions
