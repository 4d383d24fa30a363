"""Dividing users into train, valid and test: by a hash of the user, or by the time of the target."""

from __future__ import annotations

import numpy as np
import polars as pl

from trsr.config.data import SplitRule
from trsr.data.user_random import uniforms, user_keys
from trsr.errors import DataError
from trsr.records import SPLIT, TIMES, USER, Split


def split_users(histories: pl.DataFrame, rule: SplitRule, seed: int) -> pl.DataFrame:
    """Add the column `SPLIT`.

    By hash, a user's part depends on the user's id and the seed alone: it stays the
    same when rows move or other users come and go, and shares hold on average. By
    time, users are ordered by their last interaction and shares hold exactly.

    Parameters
    ----------
    histories
        `USER`, and `TIMES` when the rule goes by time.
    rule
        How, and which shares.
    seed
        The run's seed.

    Raises
    ------
    DataError
        When a part would be empty, or times are needed and missing.
    """
    by_hash = rule.by == "hash"
    split = _by_hash(histories, rule, seed) if by_hash else _by_time(histories, rule, seed)
    names = np.array([Split.TRAIN.value, Split.VALID.value, Split.TEST.value], dtype=object)
    divided = histories.with_columns(pl.Series(SPLIT, names[split], dtype=pl.String))
    empty = [name for place, name in enumerate(names) if not (split == place).any()]
    if empty:
        message = (
            f"split: no user for {' and '.join(empty)} among {histories.height:,} users; give more users, "
            "widen history.min and history.max, raise split.valid and split.test, or take another seed"
        )
        raise DataError(message)
    return divided


def _by_hash(
    histories: pl.DataFrame, rule: SplitRule, seed: int
) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    place = uniforms(user_keys(histories[USER], seed, "split"), 1)[:, 0]
    return np.where(place < rule.test, 2, np.where(place < rule.test + rule.valid, 1, 0))


def _by_time(
    histories: pl.DataFrame, rule: SplitRule, seed: int
) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    targets = histories[TIMES].list.last()
    if targets.null_count():
        message = (
            f"split.by time needs a time for every target, {targets.null_count():,} of "
            f"{histories.height:,} users have none; set split.by to hash, or name data's time column"
        )
        raise DataError(message)
    # Users of one and the same time are ordered by their keys, so that ids carry no order.
    order = np.lexsort((user_keys(histories[USER], seed, "split"), targets.to_numpy()))
    n_test, n_valid = round(rule.test * len(order)), round(rule.valid * len(order))
    split = np.zeros(len(order), dtype=np.intp)
    split[order[len(order) - n_test - n_valid :]] = 1
    split[order[len(order) - n_test :]] = 2
    return split
