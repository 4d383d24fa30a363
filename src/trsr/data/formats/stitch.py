"""Rolling rows of a user, each a history cut at its end and the next item, put together to one sequence.

A user's rows overlap: the history of a row is the end of what was there before it.
Taken as separate users they would leak the target of one row into the history of
the next. A row joins the one before it (of the same user) when the start of its
history equals the end of the other's sequence; rows between the two may be absent,
as long as something overlaps.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from trsr.data.notes import FILE, LINE, Notes
from trsr.records import HISTORY, ITEM, ITEMS, USER

_SEQUENCE: Final = "_sequence"
_NEW: Final = "_new"
_CHAIN: Final = "_chain"
_BEFORE: Final = "_before"


def stitched(rows: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    """Stitch rows to one sequence a user.

    Parameters
    ----------
    rows
        `FILE`, `LINE`, ``user_id``, ``history`` (List of String) and ``item_id``;
        a user's rows from oldest to newest.
    notes
        Takes repeated rows, and users whose rows don't all join: of these the
        longest chain of rows is kept (of equal ones the newest).

    Returns
    -------
    polars.DataFrame
        One row a user, in order of first rows: `FILE` and `LINE` of the first row
        of its chain, ``user_id`` and ``item_ids``.

    Examples
    --------
    >>> rows = pl.DataFrame({
    ...     FILE: "a.csv", LINE: [2, 3], USER: "u", HISTORY: [["1", "2"], ["1", "2", "3"]], ITEM: ["3", "4"],
    ... })
    >>> stitched(rows, Notes())[ITEMS].to_list()
    [['1', '2', '3', '4']]
    """
    rows = _first_of_repeats(rows, notes)
    joined = _with_new_items(rows)
    parts = (
        joined.with_columns(pl.col(_NEW).is_null().cum_sum().over(USER).alias(_CHAIN))
        .with_columns(pl.coalesce(_NEW, _SEQUENCE).alias(ITEMS))
        .group_by(USER, _CHAIN, maintain_order=True)
        .agg(pl.col(FILE).first(), pl.col(LINE).first(), pl.col(ITEMS).explode(), pl.len().alias("_rows"))
    )
    longest = (
        parts.with_row_index("_order")
        .with_columns(pl.col("_order").min().over(USER))
        .sort("_order", pl.col(ITEMS).list.len(), _CHAIN, descending=[False, True, True])
        .unique(USER, keep="first", maintain_order=True)
    )
    left = parts.join(longest.select(USER, _CHAIN), on=[USER, _CHAIN], how="anti", maintain_order="left")
    users = left.unique(USER, maintain_order=True)
    message = "users whose rows don't all join keep their longest chain of rows"
    notes.add("rows-do-not-join", message, "repaired", users, USER)
    notes.count(
        "row-left-out",
        "rows outside their user's longest chain are left out",
        "dropped",
        int(left["_rows"].sum()),
    )
    return longest.select(FILE, LINE, USER, ITEMS)


def _first_of_repeats(rows: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    again = ~pl.struct(USER, pl.col(HISTORY).list.join("\0", ignore_nulls=True), ITEM).is_first_distinct()
    repeats = rows.filter(again)
    notes.add("duplicate-row", "rows that repeat an earlier row are left out", "dropped", repeats, USER)
    return rows.filter(~again)


def _with_new_items(rows: pl.DataFrame) -> pl.DataFrame:
    """Add each row's whole sequence, and what it adds to the row before; null where it doesn't join."""
    rows = rows.with_columns(pl.concat_list(HISTORY, ITEM).alias(_SEQUENCE))
    rows = rows.with_columns(pl.col(_SEQUENCE).shift(1).over(USER).alias(_BEFORE))
    longest = int(rows[HISTORY].list.len().max() or 0)  # type: ignore[arg-type]
    return rows.with_columns(_new_items(longest)).drop(_BEFORE)


def _new_items(longest: int) -> pl.Expr:
    """Take the smallest gap (rows absent between two) for which start and end agree.

    A history shorter than the longest one was not cut: it must hold all of the
    sequence before it. One that was cut may have lost the start of it.
    """
    history, before = pl.col(HISTORY), pl.col(_BEFORE)
    size = history.list.len().cast(pl.Int64)
    found = pl.lit(None, dtype=pl.List(pl.String))
    for gap in range(longest - 1, -1, -1):
        overlap = size - gap
        whole = (overlap == before.list.len()) | ((size == longest) & (overlap < before.list.len()))
        agrees = history.list.head(overlap) == before.list.tail(overlap)
        joins = (overlap >= 1) & whole & agrees
        found = pl.when(joins).then(pl.concat_list(history.list.tail(gap), ITEM)).otherwise(found)
    return found.alias(_NEW)
