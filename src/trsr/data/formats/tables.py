"""Own tables: items, and either events or one list a user, as CSV, TSV, JSON lines or Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from trsr.config.data import TableData
from trsr.data.dataset import Dataset
from trsr.data.files.delimited import header_of, read_delimited
from trsr.data.files.json_lines import first_keys, read_json_lines
from trsr.data.files.lists import ids_in_text
from trsr.data.files.require import refuse_reserved, require_columns
from trsr.data.files.times import to_milliseconds
from trsr.data.notes import FILE, LINE, Notes, noting
from trsr.data.repair import assemble, explode_lists
from trsr.errors import DataError
from trsr.records import ITEM, ITEMS, TIME, USER

_SEPARATORS: Final = {".csv": ",", ".tsv": "\t"}
_JSON_LINES: Final = (".jsonl", ".ndjson")
SUFFIXES: Final = (*_SEPARATORS, *_JSON_LINES, ".parquet")
"""File name endings that are read as tables; all but Parquet may be followed by ``.gz``."""


def table_files(source: TableData) -> tuple[Path, ...]:
    """List the item table, then the table of events or histories."""
    return tuple(path for path in (source.items, source.events, source.histories) if path is not None)


@noting
def read_tables(source: TableData, notes: Notes) -> Dataset:
    """Read own tables with the column names of the settings.

    Raises
    ------
    DataError
        When a file or column is missing, a file's ending is unknown, or nothing is left.
    """
    items = _items(source, notes)
    if source.events is not None:
        events = _events(source, source.events, notes)
    else:
        events = _from_histories(source, source.histories or Path(), notes)
    return assemble(items, events, notes), notes.findings()


def read_table(path: Path, notes: Notes) -> pl.DataFrame:
    """Read one table by its ending; columns are String but in Parquet, after `FILE` and `LINE`.

    Raises
    ------
    DataError
        When the file can't be read or its ending is none of `SUFFIXES`.
    """
    ending = table_ending(path)
    if ending in _SEPARATORS:
        return read_delimited(path, _SEPARATORS[ending], notes)
    if ending in _JSON_LINES:
        return read_json_lines(path, notes)
    return _read_parquet(path)


def column_names(path: Path) -> list[str]:
    """List the columns of a table without reading all of it.

    Raises
    ------
    DataError
        As `read_table`.
    """
    ending = table_ending(path)
    if ending in _SEPARATORS:
        return header_of(path, _SEPARATORS[ending])
    if ending in _JSON_LINES:
        return first_keys(path)
    return [name for name in _read_parquet(path, rows=0).columns if name not in (FILE, LINE)]


def table_ending(path: Path) -> str:
    """Give the ending that names a table's format, without ``.gz``.

    Raises
    ------
    DataError
        When it is none of `SUFFIXES`.
    """
    name = path.name.lower().removesuffix(".gz")
    ending = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)
    if ending is None:
        message = f"{path}: the file's ending must be one of {', '.join(SUFFIXES)}; rename or convert it"
        raise DataError(message)
    return ending


def _read_parquet(path: Path, rows: int | None = None) -> pl.DataFrame:
    try:
        table = pl.read_parquet(path, n_rows=rows)
    except FileNotFoundError as error:
        message = f"{path}: no such file; check the path in the `data` section"
        raise DataError(message) from error
    except (OSError, pl.exceptions.PolarsError) as error:
        message = f"{path}: not a readable Parquet file ({error}); write it again"
        raise DataError(message) from error
    place = (pl.lit(path.name).alias(FILE), pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias(LINE))
    refuse_reserved(path, table.columns)
    return table.select(*place, pl.all())


def _items(source: TableData, notes: Notes) -> pl.DataFrame:
    table = read_table(source.items, notes)
    others = [name for name in table.columns if name not in (FILE, LINE, source.item_id)]
    fields = source.text_fields or {name: name for name in others}
    require_columns(source.items, table, (source.item_id, *fields.values()))
    if not fields or ITEM in fields:
        message = (
            f"{source.items}: items need at least one text field, and none may be called {ITEM!r}, got "
            f"{list(fields)}; name them in `data.text_fields` as `name: column`"
        )
        raise DataError(message)
    texts = [_as_text(table[column]).alias(name) for name, column in fields.items()]
    return table.select(FILE, LINE, _as_text(table[source.item_id]).alias(ITEM)).with_columns(texts)


def _events(source: TableData, path: Path, notes: Notes) -> pl.DataFrame:
    table = read_table(path, notes)
    wanted = [source.user_column, source.item_column]
    wanted += [source.time_column] if source.time_column else []
    require_columns(path, table, wanted)
    events = table.select(
        FILE,
        LINE,
        _as_text(table[source.user_column]).alias(USER),
        _as_text(table[source.item_column]).alias(ITEM),
    )
    if source.time_column is None:
        return events
    return events.with_columns(to_milliseconds(table[source.time_column]).alias(TIME))


def _from_histories(source: TableData, path: Path, notes: Notes) -> pl.DataFrame:
    table = read_table(path, notes)
    require_columns(path, table, (source.user_column, source.history_column))
    lists = table[source.history_column]
    rows = table.select(FILE, LINE, _as_text(table[source.user_column]).alias(USER))
    if isinstance(lists.dtype, pl.List | pl.Array):
        rows = rows.with_columns(_ids(lists).fill_null([]).alias(ITEMS))
    else:
        text = _as_text(lists).fill_null("").alias("_text")
        rows = rows.with_columns(text).with_columns(ids_in_text(pl.col("_text")).alias(ITEMS))
        unread = rows.filter(pl.col(ITEMS).is_null())
        notes.add("bad-row", "rows whose history is no list of ids are left out", "dropped", unread, "_text")
        rows = rows.filter(pl.col(ITEMS).is_not_null()).drop("_text")
    again = rows.filter(~pl.col(USER).str.strip_chars().is_first_distinct())
    notes.add("further-row", "further rows of a user are put behind the first", "repaired", again, USER)
    return explode_lists(rows, notes)


def _ids(lists: pl.Series) -> pl.Series:
    plain = lists.to_frame("_ids").select(pl.col("_ids").cast(pl.List(lists.dtype.inner))).to_series()  # type: ignore[attr-defined]
    return plain.list.eval(pl.element().cast(pl.String))


def _as_text(column: pl.Series) -> pl.Series:
    """Write any column as text: lists by spaces, nested values as JSON, 5.0 in whole-number floats as 5."""
    frame = column.to_frame("_value")
    value = pl.col("_value")
    inner = column.dtype.inner if isinstance(column.dtype, pl.List | pl.Array) else None
    if inner is not None and not inner.is_nested():
        flat = value.cast(pl.List(inner))
        text = flat.list.eval(pl.element().cast(pl.String)).list.join(" ", ignore_nulls=True)
    elif column.dtype.is_nested():
        text = pl.struct(value).struct.json_encode().str.strip_prefix('{"_value":').str.strip_suffix("}")
    elif column.dtype == pl.Binary:
        text = value.bin.encode("hex")
    elif column.dtype.is_float() and bool((column.drop_nulls() % 1 == 0).all()):
        text = value.cast(pl.Int64, strict=False).cast(pl.String)
    else:
        text = value.cast(pl.String)
    return frame.select(text).to_series()
