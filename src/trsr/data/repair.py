"""What all readers share: raw rows of items and events are mended, counted, and become a `Dataset`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import polars as pl

from trsr.config.data import NULL_WORDS
from trsr.data.cleaning import clean_texts, empty_as_null, is_empty
from trsr.data.dataset import Dataset, checked
from trsr.data.notes import FILE, LINE, Notes
from trsr.errors import DataError
from trsr.records import ITEM, ITEMS, TIME, TIMES, USER

NO_INTERACTIONS: Final = "empty-history"
"""Rule: users whose row holds no interaction from the start."""
NOTHING_KNOWN: Final = "user-without-items"
"""Rule: users of whose interactions none is left after repair."""
_SHOWN_IDS: Final = 3


def assemble(
    items: pl.DataFrame,
    events: pl.DataFrame,
    notes: Notes,
    *,
    null_words: Collection[str] = NULL_WORDS,
    drop_repeats: bool = True,
) -> Dataset:
    """Mend items and events, and group the events to histories.

    Parameters
    ----------
    items
        `FILE`, `LINE`, ``item_id`` and the text fields, all String but `LINE`.
    events
        `FILE`, `LINE`, ``user_id``, ``item_id`` (String) and, when the data has
        times, ``time`` (Int64, milliseconds); a user's rows in order of time as
        far as the files know it.
    notes
        Takes what is repaired, left out or only noticed.
    null_words
        Ids and texts that count as empty.
    drop_repeats
        Leave out events that repeat user, item and time of an earlier one.

    Raises
    ------
    DataError
        When no item or no history is left.
    """
    catalogue = mend_items(items, notes, null_words)
    events = _with_ids(events, USER, notes, null_words)
    users_before = events[USER].n_unique()
    events = _with_ids(events, ITEM, notes, null_words)
    named, events = events.head(_SHOWN_IDS), _known_only(events, catalogue, notes)
    timed = TIME in events.columns
    if timed:
        events = _timed(events, notes)
        if drop_repeats:
            events = _without_repeats(events, notes)
        events = _in_order(events, notes)
    columns = [pl.col(ITEM).alias(ITEMS)]
    columns += [pl.col(TIME).floordiv(1000).alias(TIMES)] if timed else []
    histories = events.group_by(USER, maintain_order=True).agg(columns)
    if histories.is_empty():
        message = (
            f"no user has an interaction with a known item left: {_both_sides(named, catalogue)}; check that "
            "the ids of the events are those of the item table, and the columns in the `data` section"
        )
        raise DataError(message)
    times = _times_or_null() if timed else pl.lit(None, dtype=pl.List(pl.Int64)).alias(TIMES)
    notes.count(
        NOTHING_KNOWN,
        "users of whose interactions none is left are left out",
        "dropped",
        users_before - histories.height,
    )
    return checked(Dataset(catalogue, histories.select(USER, ITEMS, times)))


def explode_lists(rows: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    """Turn rows with a list of ids (``item_ids``) into events; rows with an empty list are noted."""
    empty = rows.filter(pl.col(ITEMS).list.len() == 0)
    notes.add(NO_INTERACTIONS, "users without any interaction are left out", "dropped", empty, USER)
    return rows.filter(pl.col(ITEMS).list.len() > 0).explode(ITEMS).rename({ITEMS: ITEM})


def mend_items(items: pl.DataFrame, notes: Notes, null_words: Collection[str] = NULL_WORDS) -> pl.DataFrame:
    """Give the catalogue: ids present and unique (the first row of an id is kept), texts cleaned, never null.

    Raises
    ------
    DataError
        When no item is left.
    """
    fields = [name for name in items.columns if name not in (FILE, LINE, ITEM)]
    items = clean_texts(_with_ids(items, ITEM, notes, null_words), fields, null_words, notes)
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


def _with_ids(rows: pl.DataFrame, column: str, notes: Notes, null_words: Collection[str]) -> pl.DataFrame:
    """Strip white space around ids, and leave out rows without one."""
    stripped = pl.col(column).str.strip_chars()
    padded = rows.filter(stripped != pl.col(column))
    notes.add(
        "padded-id",
        "white space around ids is removed",
        "repaired",
        padded,
        pl.format("{} '{}'", pl.lit(column), column),
    )
    if padded.height:
        rows = rows.with_columns(stripped)
    rows = empty_as_null(rows, [column], null_words, notes)
    missing = is_empty(pl.col(column), null_words)
    others = pl.format("no {}", pl.lit(column))
    notes.add("missing-id", "rows without an id are left out", "dropped", rows.filter(missing), others)
    return rows.filter(~missing)


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


def _in_order(events: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    late = events.filter((pl.col(TIME).diff() < 0).over(USER))
    users = late.unique(USER, maintain_order=True)
    message = "users whose rows are not in order of time are sorted; rows of one time stay in file order"
    notes.add("unsorted-times", message, "repaired", users, USER)
    # Sorting by time alone keeps every user's rows stable; users then come in order of their oldest event,
    # so the order of first rows is put back by the row number.
    if late.is_empty():
        return events
    return (
        events.with_row_index("_first")
        .with_columns(pl.col("_first").min().over(USER))
        .sort("_first", TIME, maintain_order=True)
        .drop("_first")
    )


def _times_or_null() -> pl.Expr:
    has_times = pl.col(TIMES).list.first().is_not_null()
    return pl.when(has_times).then(pl.col(TIMES)).otherwise(None).cast(pl.List(pl.Int64)).alias(TIMES)
