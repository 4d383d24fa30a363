"""What a measured row is: rolling rows, the last two items of everybody, impressions; and given candidates.

A row has an id of its own in `USER`, which is that of the user and the place of the target in the user's
interactions, and says in `PERSON` whose it is: intervals and tests draw persons, never rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from trsr.config import Config
from trsr.config.data import HistoryWindow, SplitRule
from trsr.data.candidates import SAMPLER, uniforms, user_keys
from trsr.data.dataset import Dataset
from trsr.data.notes import LINE, Notes
from trsr.data.text_files import TEXT, read_lines
from trsr.errors import DataError
from trsr.records import (
    CANDIDATES,
    HISTORY,
    ITEM,
    ITEMS,
    PERSON,
    PLACE,
    POSITIVES,
    SPLIT,
    TARGET,
    TIMES,
    USER,
    Finding,
    Split,
)

_COLUMNS: Final = (USER, SPLIT, HISTORY, TARGET, TIMES, PERSON)
_FEWEST: Final = 4
"""Interactions of a user of leave-last-out: two targets, and two to learn from."""


def divide(dataset: Dataset, config: Config) -> tuple[pl.DataFrame, pl.DataFrame, tuple[Finding, ...]]:
    """Make the rows of a protocol other than `users`, and the sequences that only train.

    Rows are as `Prepared.histories` has them, with `PERSON`, by rising id; training users have one each.
    Raises DataError when the data can't give such rows, or a part would be empty.
    """
    make = {"rolling": _rolling, "leave_last_out": _leave_last_out, "impressions": _impressions}
    rows, training, findings = make[config.split.protocol](dataset, config.history, config.split)
    length = pl.col(ITEMS).list.len()
    users = _rows(training.filter(length >= config.history.min), config.history, length - 1, Split.TRAIN)
    rows = pl.concat([rows, users.with_columns(pl.col(PERSON).alias(USER))]).select(_COLUMNS).sort(USER)
    empty = [part.value for part in Split if part.value not in rows[SPLIT]]
    if empty:
        message = (
            f"split.protocol: {config.split.protocol} leaves no row for {' and '.join(empty)}; lower "
            f"history.min (it is {config.history.min}), or give more users"
        )
        raise DataError(message)
    if rows[USER].is_duplicated().any():
        twice = rows[USER].filter(rows[USER].is_duplicated())[0]
        message = f"two rows would be called {twice!r}: a user's id is that of another's row; rename the user"
        raise DataError(message)
    short = training.filter(length.is_between(2, config.history.min - 1)).select(USER, ITEMS).sort(USER)
    return rows, short if config.history.background else short.clear(), findings


def _rows(
    histories: pl.DataFrame, window: HistoryWindow, place: pl.Expr, split: Split | pl.Expr
) -> pl.DataFrame:
    """Make a row of each history, whose target is the interaction at `place`."""
    part = pl.lit(split.value) if isinstance(split, Split) else split
    start = pl.max_horizontal(place.cast(pl.Int64) - window.max + 1, 0)
    before = place.cast(pl.Int64) - start
    return histories.select(
        pl.format("{}#{}", USER, place + 1).alias(USER),
        part.alias(SPLIT),
        pl.col(ITEMS).list.slice(start, before).alias(HISTORY),
        pl.col(ITEMS).list.get(place).alias(TARGET),
        pl.col(TIMES).list.slice(start, before),
        pl.col(USER).alias(PERSON),
    )


def _leave_last_out(
    dataset: Dataset, window: HistoryWindow, rule: SplitRule
) -> tuple[pl.DataFrame, pl.DataFrame, tuple[Finding, ...]]:
    length = pl.col(ITEMS).list.len().cast(pl.Int64)
    if window.min < _FEWEST:
        message = (
            f"history.min must be {_FEWEST} or more with split.protocol: leave_last_out, which takes two "
            f"targets from each user, got {window.min}"
        )
        raise DataError(message)
    kept, short = (dataset.histories.filter(rule) for rule in (length >= window.min, length < window.min))
    rows = [_rows(kept, window, length - n, part) for n, part in ((2, Split.VALID), (1, Split.TEST))]
    cut = kept.with_columns(pl.col(ITEMS, TIMES).list.head(length - 2))
    # A user with the fewest interactions keeps fewer to train than `history.min`, and trains all the same.
    told = (
        f"{short.height:,} users with fewer than {window.min} interactions (history.min) are not measured; "
        "their items take part in training"
    )
    found = (Finding("short-history", told, short.height, "noted"),) if short.height else ()
    return pl.concat(rows), pl.concat([cut, short]), found


def _rolling(
    dataset: Dataset, window: HistoryWindow, rule: SplitRule
) -> tuple[pl.DataFrame, pl.DataFrame, tuple[Finding, ...]]:
    histories = dataset.histories
    measured = _by_time(histories, rule) if dataset.rows is None else dataset.rows
    place = pl.col(PLACE).cast(pl.Int64)
    enough = measured.filter(place >= window.min - 1)
    rows = _rows(enough.join(histories, on=USER, maintain_order="left"), window, place, pl.col(SPLIT))
    first = measured.group_by(USER).agg(place.min())
    cut = pl.when(place.is_null()).then(pl.col(ITEMS).list.len()).otherwise(place)
    training = histories.join(first, on=USER, how="left", maintain_order="left").with_columns(
        pl.col(ITEMS, TIMES).list.head(cut)
    )
    left = measured.height - enough.height
    few = f"fewer than {window.min - 1} items before (history.min)"
    told = f"{left:,} of {measured.height:,} rows left out: {few}"
    found = (Finding("short-history", told, left, "dropped"),) if left else ()
    return rows, training.drop(PLACE), found


def _by_time(histories: pl.DataFrame, rule: SplitRule) -> pl.DataFrame:
    """Cut all interactions but a user's first by time: `USER`, `PLACE` and `SPLIT` of those measured."""
    timeless = histories[TIMES].null_count()
    if timeless:
        message = (
            f"split.protocol: rolling cuts interactions by time, and {timeless:,} of {histories.height:,} "
            "users have none; name data's time column, or take data whose files say which rows are measured "
            "(format: amazon_5core)"
        )
        raise DataError(message)
    events = histories.select(USER, TIMES, pl.int_ranges(pl.col(ITEMS).list.len()).alias(PLACE))
    events = events.explode(TIMES, PLACE).filter(pl.col(PLACE) > 0)
    # Interactions of one time are ordered by a hash, so that ids carry no order; a user's own stay in theirs.
    order = np.lexsort((events[PLACE], user_keys(events[USER], 0, "split"), events[TIMES].to_numpy()))
    events = events[order]
    n_test, n_valid = round(rule.test * events.height), round(rule.valid * events.height)
    parts = [Split.TRAIN.value] * (events.height - n_test - n_valid)
    parts += [Split.VALID.value] * n_valid + [Split.TEST.value] * n_test
    named = events.select(USER, PLACE, pl.Series(SPLIT, parts, dtype=pl.String))
    return named.filter(pl.col(SPLIT) != Split.TRAIN.value)


def _impressions(
    dataset: Dataset, window: HistoryWindow, rule: SplitRule
) -> tuple[pl.DataFrame, pl.DataFrame, tuple[Finding, ...]]:
    shown = dataset.impressions
    if shown is None:
        message = (
            "split.protocol: impressions needs data that says what was shown together: format: mind, with "
            "data.valid and data.test"
        )
        raise DataError(message)
    rows = shown.select(
        USER,
        SPLIT,
        pl.col(HISTORY).list.tail(window.max - 1),
        pl.col(POSITIVES).list.first().alias(TARGET),
        pl.lit(None, dtype=pl.List(pl.Int64)).alias(TIMES),
        PERSON,
    )
    return rows, dataset.histories, ()


def given_candidates(
    drawn: pl.DataFrame, dataset: Dataset, config: Config
) -> tuple[pl.DataFrame, tuple[Finding, ...]]:
    """Put given candidates into the place of drawn ones: impressions of measured rows, lists of a file.

    Impressions add the column `POSITIVES`. Raises DataError when a file can't be read, or doesn't fit.
    """
    sampler = config.candidates.sampler
    if sampler == "impressions" and dataset.impressions is not None:
        own = dataset.impressions.select(USER, pl.col(CANDIDATES).alias("given"), POSITIVES)
    elif sampler == "file" and config.candidates.file is not None:
        own = _from_file(drawn, dataset, config)
    else:
        return drawn, ()
    filled = drawn.join(own, on=USER, how="left", maintain_order="left").with_columns(
        pl.coalesce("given", CANDIDATES).alias(CANDIDATES), pl.lit(sampler).alias(SAMPLER)
    )
    taken = filled.filter(pl.col("given").is_not_null())
    message = f"{taken.height:,} rows are asked given candidates ({sampler}), all others uniform ones"
    return filled.drop("given"), (Finding("given-candidates", message, taken.height, "noted"),)


def named_users(path: Path) -> pl.DataFrame:
    """Read lists of candidates: `USER` and `ITEMS`, in the order of the file, with the first line of each.

    Raises DataError, with the line, when the file has another form.
    """
    notes = Notes()
    if path.suffix.lower() == ".parquet":
        table = pl.read_parquet(path)
        if missing := [name for name in (USER, ITEM) if name not in table.columns]:
            message = f"{path}: lacks the column {missing[0]!r}; lists of candidates have {USER} and {ITEM}"
            raise DataError(message)
        lists = table.schema[ITEM] == pl.List
        items = pl.col(ITEM) if lists else pl.concat_list(ITEM)
        rows = table.with_row_index(LINE, offset=1).select(
            LINE, pl.col(USER).cast(pl.String), items.cast(pl.List(pl.String)).alias(ITEMS)
        )
    else:
        lines = read_lines(path, notes).filter(pl.col(TEXT).str.strip_chars() != "")
        lines = lines.filter((pl.col(LINE) > 1) | ~pl.col(TEXT).str.starts_with(f"{USER}\t"))
        rows = lines.select(
            LINE,
            pl.col(TEXT).str.extract(r"^([^\t]+)\t").alias(USER),
            pl.col(TEXT).str.extract(r"^[^\t]+\t(.*)$").str.extract_all(r"\S+").alias(ITEMS),
        )
    bad = rows.filter(pl.col(USER).is_null() | (pl.col(ITEMS).list.len() == 0))
    if bad.height:
        message = (
            f"{path}:{bad[LINE][0]}: must be a user, a tab, and item ids by space ({bad.height:,} lines)"
        )
        raise DataError(message)
    exploded = rows.explode(ITEMS)
    return exploded.group_by(USER, maintain_order=True).agg(pl.col(LINE).first(), ITEMS)


def _from_file(drawn: pl.DataFrame, dataset: Dataset, config: Config) -> pl.DataFrame:
    """Give the listed users the target and the first of their list, shuffled by the seed."""
    path, count = config.candidates.file, config.candidates.negatives
    assert path is not None
    lists = named_users(path).join(drawn.select(USER, TARGET), on=USER, maintain_order="left")
    others = lists.explode(ITEMS).unique([USER, ITEMS], maintain_order=True)
    unknown = others.join(dataset.items.select(ITEM), left_on=ITEMS, right_on=ITEM, how="anti")
    if unknown.height:
        user, line, item = unknown.select(USER, LINE, ITEMS).row(0)
        message = f"{path}:{line}: user {user!r} has the candidate {item!r}, which the item table lacks"
        raise DataError(message)
    others = others.filter(pl.col(ITEMS) != pl.col(TARGET))
    own = others.group_by(USER, maintain_order=True).agg(
        pl.col(LINE, TARGET).first(), pl.col(ITEMS).head(count)
    )
    short = own.filter(pl.col(ITEMS).list.len() < count)
    if short.height:
        message = (
            f"{path}:{short[LINE][0]}: user {short[USER][0]!r} has {short[ITEMS].list.len()[0]} candidates "
            f"beside the target, and candidates.negatives is {count} ({short.height:,} such users); lower it"
        )
        raise DataError(message)
    order = np.argsort(uniforms(user_keys(own[USER], config.seed, "order"), count + 1), axis=1)
    places = pl.Series("order", order, dtype=pl.Array(pl.Int64, count + 1)).arr.to_list()
    together = own.select(USER, pl.concat_list(TARGET, ITEMS).alias("given"), places)
    return together.select(USER, pl.col("given").list.gather(pl.col("order")))


def with_listed_users(divided: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Make the users of a file of candidates the test users, and all others train or validate."""
    listed = named_users(path)[USER]
    strangers = listed.filter(~listed.is_in(divided[USER].implode()))
    if len(strangers):
        message = (
            f"{path}: {len(strangers):,} of {len(listed):,} users take no part, such as {strangers[0]!r}; "
            "check that ids are those of the data, and lower history.min"
        )
        raise DataError(message)
    test = pl.col(SPLIT) == Split.TEST.value
    others = pl.when(test).then(pl.lit(Split.TRAIN.value)).otherwise(pl.col(SPLIT))
    return divided.with_columns(
        pl.when(pl.col(USER).is_in(listed.implode()))
        .then(pl.lit(Split.TEST.value))
        .otherwise(others)
        .alias(SPLIT)
    )
