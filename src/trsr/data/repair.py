"""What all readers share: raw rows of items and events are mended, counted, and become a `Dataset`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import polars as pl

from trsr.config.data import NULL_WORDS
from trsr.data.candidates import user_keys
from trsr.data.cleaning import clean_texts
from trsr.data.dataset import Dataset, checked
from trsr.data.ids import mended_ids
from trsr.data.notes import FILE, LINE, Notes
from trsr.errors import DataError
from trsr.records import ITEM, ITEMS, MEASURED, PLACE, SPLIT, TIME, TIMES, USER

SECOND: Final = 1_000_000
"""Microseconds, the unit of the times of events."""
NO_INTERACTIONS: Final = "empty-history"
"""Rule: users whose row holds no interaction from the start."""
NOTHING_KNOWN: Final = "user-without-items"
"""Rule: users of whose interactions none is left after repair."""
_SHOWN_IDS: Final = 3

_ROW: Final = "_row"
_PLACE: Final = "_place"
_FEW: Final = 0.05
"""A file with no more steps in the wrong direction than this share is sorted."""
_TELLING_PAIRS: Final = 20
"""So many pairs of ids are not sorted by chance."""


def assemble(
    items: pl.DataFrame,
    events: pl.DataFrame,
    notes: Notes,
    *,
    null_words: Collection[str] = NULL_WORDS,
    listed: bool = False,
    seed: int = 0,
) -> Dataset:
    """Mend items and events, and group the events to histories; notes take what was done.

    `items` has `FILE`, `LINE`, ``item_id`` and the text fields, all String but `LINE`. `events`
    and `listed` are those of `mend_events`, but ``user_id`` is as it was read. `seed` draws the
    order of events of one time. Raises DataError when no item or no history is left.
    """
    catalogue = mend_items(items, notes, null_words)
    events = mended_ids(events, (USER,), notes, null_words)
    users_before = events[USER].n_unique()
    events = mend_events(events, catalogue, notes, null_words=null_words, listed=listed, seed=seed)
    timed = TIME in events.columns
    columns = [pl.col(ITEM).alias(ITEMS)]
    columns += [pl.col(TIME).floordiv(SECOND).alias(TIMES)] if timed else []
    histories = events.group_by(USER, maintain_order=True).agg(columns)
    times = _times_or_null() if timed else pl.lit(None, dtype=pl.List(pl.Int64)).alias(TIMES)
    notes.count(
        NOTHING_KNOWN,
        "users of whose interactions none is left are left out",
        "dropped",
        users_before - histories.height,
    )
    return checked(Dataset(catalogue, histories.select(USER, ITEMS, times), rows=_measured(events)))


def _measured(events: pl.DataFrame) -> pl.DataFrame | None:
    """Say at which places of the histories the measured interactions are, where events name a `SPLIT`."""
    if SPLIT not in events.columns:
        return None
    placed = events.select(USER, SPLIT, pl.int_range(pl.len()).over(USER).alias(PLACE))
    measured = pl.col(SPLIT).is_in([part.value for part in MEASURED])
    return placed.filter(measured & (pl.col(PLACE) > 0))


def mend_events(
    events: pl.DataFrame,
    catalogue: pl.DataFrame,
    notes: Notes,
    *,
    null_words: Collection[str] = NULL_WORDS,
    listed: bool = False,
    seed: int = 0,
) -> pl.DataFrame:
    """Mend events and put each user's into the order of time; notes take what was done.

    `events` have `FILE`, `LINE`, ``user_id`` (mended, as `mended_ids` does), ``item_id`` (String) and, when
    the data has times, ``time`` (Int64, microseconds); `SPLIT` where its files say which are measured. Those
    with items that the catalogue lacks are left out. `listed` rows come from lists, oldest first: none that
    repeats another is left out, and rows of one time keep their order; of others the seed draws it.

    Raises DataError when nothing is left.
    """
    events = mended_ids(events, (ITEM,), notes, null_words)
    named, events = events.head(_SHOWN_IDS), _known_only(events, catalogue, notes)
    if events.is_empty():
        message = (
            f"no user has an interaction with a known item left: {_both_sides(named, catalogue)}; check that "
            "the ids of the events are those of the item table, and the columns in the `data` section"
        )
        raise DataError(message)
    if TIME not in events.columns:
        return events
    events = _timed(events, notes)
    if not listed:
        events = _without_repeats(events, notes)
    return _in_order(events, notes, listed, seed)


def explode_lists(rows: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    """Turn rows with a list of ids (``item_ids``) into events; rows with an empty list are noted."""
    empty = rows.filter(pl.col(ITEMS).list.len() == 0)
    notes.add(NO_INTERACTIONS, "users without any interaction are left out", "dropped", empty, USER)
    return rows.filter(pl.col(ITEMS).list.len() > 0).explode(ITEMS).rename({ITEMS: ITEM})


def rated(rows: pl.DataFrame, column: str, least: float, notes: Notes) -> pl.DataFrame:
    """Leave out rows whose rating is below the least one, or can't be read; all are kept when it is 0."""
    if not least:
        return rows
    rating = pl.col(column).cast(pl.Float64, strict=False)
    low = rows.filter(rating < least)
    notes.add("low-rating", "ratings below min_rating are no interactions", "noted", low, column)
    unrated = rows.filter(rating.is_null() | rating.is_nan())
    notes.add("bad-row", "rows without a readable rating are left out", "dropped", unrated, column)
    return rows.filter((rating >= least) & rating.is_not_nan())


def mend_items(items: pl.DataFrame, notes: Notes, null_words: Collection[str] = NULL_WORDS) -> pl.DataFrame:
    """Give the catalogue: ids present and unique (the first row of an id is kept), texts cleaned, never null.

    Raises DataError when no item is left.
    """
    fields = [name for name in items.columns if name not in (FILE, LINE, ITEM)]
    items = clean_texts(mended_ids(items, (ITEM,), notes, null_words), fields, null_words, notes)
    if items.is_empty():
        message = "no item is left; check that the item file holds rows and that the id column is filled"
        raise DataError(message)
    items = _first_of_each(items, fields, notes)
    silent = items.filter(pl.all_horizontal(pl.col(fields) == ""))
    notes.add("empty-text", "items without any text are kept; a model can't know them", "noted", silent, ITEM)
    return items.select(ITEM, *fields).rechunk()


def _first_of_each(items: pl.DataFrame, fields: list[str], notes: Notes) -> pl.DataFrame:
    again = ~pl.col(ITEM).is_first_distinct()
    if not items.select(again.any()).item():
        return items
    other_text = pl.any_horizontal(pl.col(name) != pl.col(name).first().over(ITEM) for name in fields)
    doubles = items.with_columns(again.alias("_again"), other_text.alias("_other")).filter("_again")
    same, other = doubles.filter(~pl.col("_other")), doubles.filter("_other")
    shown = pl.format("{} {}", ITEM, pl.concat_str(fields, separator=" | "))
    notes.add(
        "duplicate-item", "further rows of an item with the same text are left out", "dropped", same, shown
    )
    message = "further rows of an item with another text are left out, the first row is kept"
    notes.add("duplicate-item", message, "dropped", other, shown)
    return items.filter(~again)


def _both_sides(events: pl.DataFrame, catalogue: pl.DataFrame) -> str:
    """Say how ids look in the events and in the item table, for somebody to see why they don't meet."""
    if events.is_empty():
        return "no event is left"
    named, held = (", ".join(map(repr, table[ITEM].head(_SHOWN_IDS))) for table in (events, catalogue))
    return f"the events name items such as {named}, the item table holds {held}"


def _known_only(events: pl.DataFrame, catalogue: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    unknown = events.join(catalogue.select(ITEM), on=ITEM, how="anti", maintain_order="left")
    shown = pl.format("item {} of user {}", ITEM, USER)
    message = "interactions with items that the item file does not have are removed from the histories"
    notes.add("unknown-item", message, "dropped", unknown, shown)
    distinct = unknown.unique(ITEM, maintain_order=True)
    message = f"different ids that the item file does not have; its own are such as {catalogue[ITEM][0]!r}"
    notes.add("unknown-id", message, "noted", distinct, ITEM)
    return (
        events.join(catalogue.select(ITEM), on=ITEM, how="semi", maintain_order="left")
        if unknown.height
        else events
    )


def _timed(events: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    """Leave out rows without a time, but for users who have none at all: their rows stay in file order."""
    if not events[TIME].null_count():
        return events
    timeless = pl.col(TIME).is_null()
    timeless_user = timeless.all().over(USER)
    whole = events.filter(timeless_user).unique(USER, maintain_order=True)
    notes.add(
        "missing-times", "users without any readable time keep the order of their rows", "noted", whole, USER
    )
    rows = events.filter(timeless & ~timeless_user)
    shown = pl.format("item {} of user {}", ITEM, USER)
    notes.add("missing-time", "rows without a readable time are left out", "dropped", rows, shown)
    return events.filter(~timeless | timeless_user)


def _without_repeats(events: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    again = ~pl.struct(USER, ITEM, TIME).is_first_distinct() & pl.col(TIME).is_not_null()
    repeats = events.filter(again)
    shown = pl.format("item {} of user {}", ITEM, USER)
    notes.add(
        "duplicate-event", "events that repeat user, item and time are left out", "dropped", repeats, shown
    )
    return events.filter(~again) if repeats.height else events


def _in_order(events: pl.DataFrame, notes: Notes, listed: bool, seed: int) -> pl.DataFrame:
    """Sort each user's rows by time; users stay in the order of their first rows.

    Rows of one time keep the file's order where the file is in order of time, and are turned round where
    it is newest first. Any other order (of item ids, say) says nothing of time: then they are drawn.
    """
    late = events.filter((pl.col(TIME).diff() < 0).over(USER))
    users = late.unique(USER, maintain_order=True)
    notes.add(
        "unsorted-times", "users whose rows are not in order of time are sorted", "repaired", users, USER
    )
    order = "oldest first" if listed else _order_of_rows(events)
    events = events.with_row_index(_ROW)
    if order == "newest first":
        events = events.with_columns((pl.len() - pl.col(_ROW)).alias(_PLACE))
    elif order == "by chance":
        events = events.with_columns(_drawn(events, seed))
    else:
        events = events.with_columns(pl.col(_ROW).alias(_PLACE))
    if late.height or order != "oldest first":
        events = events.sort(pl.col(_ROW).min().over(USER), TIME, _PLACE)
    if not listed:
        _note_ties(events, order, notes)
    return events.drop(_ROW, _PLACE)


def _order_of_rows(events: pl.DataFrame) -> str:
    """Tell from users' rows in which order those of one time are: most files are sorted, but for a few."""
    step = pl.col(TIME).diff().over(USER)
    rises, falls = events.select((step > 0).sum().alias("rises"), (step < 0).sum().alias("falls")).row(0)
    if not rises + falls or _FEW * (rises + falls) < min(rises, falls) or _is_by_item(events):
        return "by chance"
    return "oldest first" if rises > falls else "newest first"


def _is_by_item(events: pl.DataFrame) -> bool:
    """Say whether rows of one time are sorted by their items' ids, as text or as numbers."""
    before = pl.col(ITEM).shift().over(USER)
    same_time = (pl.col(TIME).diff().over(USER) == 0) & (pl.col(ITEM) != before)
    pairs = events.select(ITEM, before.alias("before"), same_time.alias("same")).filter("same")
    if pairs.height < _TELLING_PAIRS:
        return False
    numbers = pairs.select(pl.col(ITEM, "before").cast(pl.Float64, strict=False))
    rising = pl.col(ITEM) > pl.col("before")
    return any(
        frame.select(rising.all() | (~rising).all()).item()
        for frame in (pairs, numbers)
        if not frame[ITEM].null_count()
    )


def _drawn(events: pl.DataFrame, seed: int) -> pl.Series:
    """Give each row its place among those of one time: by user, item, time and seed, not by the file."""
    tied = events.select(pl.col(TIME).is_not_null() & (pl.len().over(USER, TIME) > 1)).to_series()
    keys = events.filter(tied).select(pl.concat_str(USER, ITEM, TIME, separator="\x1f")).to_series()
    places = events[_ROW].cast(pl.UInt64).alias(_PLACE)
    return places.scatter(tied.arg_true(), pl.Series(user_keys(keys, seed, "ties"), dtype=pl.UInt64))


def _note_ties(events: pl.DataFrame, order: str, notes: Notes) -> None:
    newest = events.filter(pl.col(TIME) == pl.col(TIME).max().over(USER))
    last = newest.group_by(USER, maintain_order=True).agg(pl.all().last(), pl.len().alias("_tied"))
    done = {
        "oldest first": "is the file's last, as its rows are in order of time",
        "newest first": "is the file's first, as its rows are newest first",
        "by chance": "is drawn by the seed, as the order of the file's rows is none of time",
    }
    notes.add(
        "tied-target",
        f"users whose last events have one time: which of them is the target {done[order]}",
        "noted" if order == "oldest first" else "repaired",
        last.filter(pl.col("_tied") > 1),
        pl.format("user {}: {} events", USER, "_tied"),
    )


def _times_or_null() -> pl.Expr:
    has_times = pl.col(TIMES).list.first().is_not_null()
    return pl.when(has_times).then(pl.col(TIMES)).otherwise(None).cast(pl.List(pl.Int64)).alias(TIMES)
