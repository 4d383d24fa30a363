"""Ids of users and items: the one place that says which text each is, whatever table it comes from."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

import polars as pl
from polars.datatypes import DataTypeClass

from trsr.config.data import NULL_WORDS
from trsr.data.cleaning import empty_as_null, is_empty
from trsr.data.notes import Notes
from trsr.errors import DataError

_WHOLE_FLOAT: Final = r"^-?\d+\.0+$"
_WHOLE_NUMBER: Final = r"^-?\d+(?:\.0+)?$"
_EXACT: Final = 1 << 53
"""From here on floats no longer hold every whole number."""


def id_texts(column: pl.Series) -> pl.Series:
    """Write a column of ids, or of lists of ids, as text, exactly as they stand there.

    Raises DataError when the column's type is none of ids.

    Examples
    --------
    >>> id_texts(pl.Series([7.0, 7.5, float("nan")])).to_list()
    ['7.0', '7.5', None]
    >>> id_texts(pl.Series([[7, 8], None])).to_list()
    [['7', '8'], None]
    """
    kind = column.dtype
    is_list = isinstance(kind, pl.List | pl.Array)
    inner = kind.inner if isinstance(kind, pl.List | pl.Array) else kind
    if inner.is_nested() or inner.is_temporal() or inner == pl.Boolean:
        message = f"column {column.name!r} holds values of type {kind}, which are no ids; name another column"
        raise DataError(message)
    value = _text(pl.element() if is_list else pl.col(column.name), inner)
    if is_list:
        value = pl.col(column.name).cast(pl.List(inner)).list.eval(value)
    return column.to_frame().select(value).to_series()


def _text(value: pl.Expr, kind: pl.DataType | DataTypeClass) -> pl.Expr:
    if kind == pl.Binary:
        return value.bin.encode("hex")
    if not kind.is_float():
        return value.cast(pl.String)
    # Large floats would be written with an exponent.
    whole = pl.concat_str(value.cast(pl.Int64, strict=False).cast(pl.String), pl.lit(".0"))
    is_whole = (value % 1 == 0) & (value.abs() < float(1 << 63))
    return pl.when(is_whole).then(whole).when(value.is_not_nan()).then(value.cast(pl.String))


def mended_ids(
    rows: pl.DataFrame, columns: Iterable[str], notes: Notes, null_words: Collection[str] = NULL_WORDS
) -> pl.DataFrame:
    """Mend columns of ids, and leave out rows without one.

    White space around ids is removed. Where every id of a column is a whole number, ``7.0``, as tables have
    it that once had a gap in a column of numbers, is ``7``, also beside others without a point; null words
    are no ids; any other text is an id as it is.
    """
    for column in columns:
        rows = _without_floats(_stripped(rows, column, notes), column, notes)
        rows = empty_as_null(rows, [column], null_words, notes)
        missing = is_empty(pl.col(column), null_words)
        others = pl.format("no {}", pl.lit(column))
        notes.add("missing-id", "rows without an id are left out", "dropped", rows.filter(missing), others)
        rows = rows.filter(~missing)
    return rows


def _stripped(rows: pl.DataFrame, column: str, notes: Notes) -> pl.DataFrame:
    stripped = pl.col(column).str.strip_chars()
    padded = rows.filter(stripped != pl.col(column))
    shown = pl.format("{} '{}'", pl.lit(column), column)
    notes.add("padded-id", "white space around ids is removed", "repaired", padded, shown)
    return rows.with_columns(stripped) if padded.height else rows


def _without_floats(rows: pl.DataFrame, column: str, notes: Notes) -> pl.DataFrame:
    floats = rows.filter(pl.col(column).str.ends_with("0") & pl.col(column).str.contains(_WHOLE_FLOAT))
    if floats.is_empty():
        return rows
    shown = pl.format("{} {}", pl.lit(column), column)
    without = pl.col(column).str.replace(r"\.0+$", "")
    ids = rows[column].drop_nulls()
    if not ids.filter(ids != "").str.contains(_WHOLE_NUMBER).all():
        message = (
            "ids such as 7.0 stand beside 7, and are others, as not all ids are numbers: write them alike"
        )
        notes.add("twin-id", message, "noted", floats.filter(without.is_in(ids.unique().implode())), shown)
        return rows
    notes.add("float-id", "ids that are whole floats, such as 7.0, are read as 7", "repaired", floats, shown)
    large = floats.filter(pl.col(column).cast(pl.Float64).abs() >= _EXACT)
    message = "ids are too large for floats, which round them: write the ids as text or whole numbers"
    notes.add("rounded-id", message, "noted", large, shown)
    return rows.with_columns(without)
