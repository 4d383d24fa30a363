"""Own tables: items, and either events or one list a user, as CSV, TSV, JSON lines or Parquet.

Each may be one file, or a folder of parts as Spark writes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import polars as pl

from trsr.config.data import ItemTableData, TableData
from trsr.data.cleaning import empty_as_null, ids_in_text, text_of_json, text_of_list
from trsr.data.dataset import Dataset, Reader
from trsr.data.delimited import UNNAMED, header_of, read_delimited
from trsr.data.ids import id_texts
from trsr.data.json_lines import first_keys, read_json_lines
from trsr.data.notes import FILE, LINE, Notes, noting
from trsr.data.repair import assemble, explode_lists
from trsr.data.text_files import other_kind, refuse_reserved, require_columns
from trsr.data.times import read_times
from trsr.errors import DataError
from trsr.records import ITEM, ITEMS, TIME, USER

_SEPARATORS: Final = {".csv": ",", ".tsv": "\t"}
_JSON_LINES: Final = (".jsonl", ".ndjson", ".json")
_INDEX_NAMES: Final = ("index", "level_0")
_SHOWN: Final = 34
_NO_PARTITION: Final = "__HIVE_DEFAULT_PARTITION__"
SUFFIXES: Final = (*_SEPARATORS, *_JSON_LINES, ".parquet")
"""File name endings that are read as tables; all but Parquet may be followed by ``.gz``."""


class Tables(Reader):
    """Own tables, by the names of their columns."""

    Settings = TableData
    signs = "own tables (items.* with events.* or histories.*)"

    def files(self) -> tuple[Path, ...]:
        """List the item table, then the table of events or histories."""
        source: TableData = self.settings
        return tuple(path for path in (source.items, source.events, source.histories) if path is not None)

    @noting
    def read(self, notes: Notes, seed: int) -> Dataset:
        """Read own tables with the column names of the settings.

        Raises DataError when a file or column is missing, a file's ending is unknown, or nothing is left.
        """
        source: TableData = self.settings
        return _assembled(source, notes, seed, lambda path: read_table(path, notes, source.encoding))

    @classmethod
    def detect(cls, folder: Path, names: set[str]) -> TableData | None:
        """Recognise the files; see `Reader`."""
        items, events, histories = (
            table_named(folder, names, stem) for stem in ("items", "events", "histories")
        )
        if items is None or (events is None and histories is None):
            return None
        settings: dict[str, object] = {"items": items, "item_id": column_for(items, ITEM_NAMES, "item_id")}
        if events is not None:
            times = first_match(column_names(events), _TIME_NAMES)
            settings |= {
                "events": events,
                "user_column": column_for(events, _USER_NAMES, "user_column"),
                "item_column": column_for(events, ITEM_NAMES, "item_column"),
                "time_column": times,
            }
        elif histories is not None:
            settings |= {
                "histories": histories,
                "user_column": column_for(histories, _USER_NAMES, "user_column"),
                "history_column": column_for(histories, _LIST_NAMES, "history_column"),
            }
        return TableData.model_validate({"format": "tables", **settings})


def _assembled(
    source: TableData, notes: Notes, seed: int, table_of: Callable[[Path], pl.DataFrame]
) -> Dataset:
    items = catalogue_rows(source, table_of(source.items), notes)
    if source.events is not None:
        events = _events(source, source.events, table_of(source.events), notes)
    else:
        path = source.histories or Path()
        events = _from_histories(source, path, table_of(path), notes)
    return assemble(items, events, notes, null_words=source.null_words, seed=seed)


def from_frames(
    items: Any,
    events: Any = None,
    *,
    histories: Any = None,
    item_id: str = "item_id",
    text_fields: Mapping[str, str] | Sequence[str] = (),
    user_column: str = "user_id",
    item_column: str = "item_id",
    time_column: str | None = "time",
    history_column: str = "item_ids",
    seed: int = 0,
) -> Dataset:
    """Make a data set of data frames, by the rules by which files are read.

    What was noticed, repaired or left out on the way is told by the data set's `findings`.

    Parameters
    ----------
    items
        A row an item: polars, pandas, pyarrow, or whatever speaks Arrow's stream interface.
    events, histories
        Give one of them: a row an interaction, or a row a user with a list of item ids, oldest first.
    item_id
        Column of `items` that holds the id.
    text_fields
        Columns of `items` that are text, or name to show -> column; empty for all but the id.
    user_column, item_column, time_column, history_column
        Columns of `events` and `histories`; `time_column` None: rows are in time order.
    seed
        Draws the order of events of one time.

    Raises
    ------
    DataError
        When what is given is no data frame, a column is missing, or nothing is left.

    Examples
    --------
    >>> items = pl.DataFrame({"item_id": [1, 2], "title": ["Mug", "Saw"]})
    >>> events = pl.DataFrame({"user_id": [7, 7], "item_id": [2, 1], "time": ["2024-05-02", "2024-05-01"]})
    >>> from_frames(items, events).histories["item_ids"].to_list()
    [['1', '2']]
    """
    if (events is None) == (histories is None):
        message = "give exactly one of `events` and `histories`"
        raise DataError(message)
    given = {"items": items, "events": events, "histories": histories}
    frames = {Path(name): _numbered(name, frame) for name, frame in given.items() if frame is not None}
    named = text_fields if isinstance(text_fields, Mapping) else {name: name for name in text_fields}
    source = TableData(
        format="tables",
        items=Path("items"),
        events=None if events is None else Path("events"),
        histories=None if histories is None else Path("histories"),
        item_id=item_id,
        text_fields=dict(named),
        user_column=user_column,
        item_column=item_column,
        time_column=time_column,
        history_column=history_column,
    )
    notes = Notes()
    with notes.told_with_errors():
        dataset = _assembled(source, notes, seed, frames.__getitem__)
    return replace(dataset, findings=notes.findings())


def _numbered(name: str, frame: Any) -> pl.DataFrame:
    """Turn a data frame of any library into a table as `read_table` gives it."""
    if isinstance(frame, pl.LazyFrame):
        frame = frame.collect()
    if not isinstance(frame, pl.DataFrame):
        if not hasattr(frame, "__arrow_c_stream__"):
            message = f"{name} must be a data frame (polars, pandas with pyarrow, pyarrow), got {type(frame)}"
            raise DataError(message)
        frame = pl.DataFrame(frame)
    table: pl.DataFrame = frame
    refuse_reserved(Path(name), table.columns)
    place = (pl.lit(name).alias(FILE), pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias(LINE))
    return table.select(*place, pl.all())


def read_table(path: Path, notes: Notes, encoding: str | None = None) -> pl.DataFrame:
    """Read one table by its ending; columns are String but in Parquet, after `FILE` and `LINE`.

    Raises DataError when the file can't be read, its ending is none of `SUFFIXES`, or parts don't fit
    together.
    """
    parts = [(part, _read_part(part, path, notes, encoding)) for part in table_parts(path)]
    (first, table), *others = parts
    for part, other in others:
        if table_ending(part, path) in _SEPARATORS and set(other.columns) != set(table.columns):
            there, here = (", ".join(each.drop(FILE, LINE).columns) for each in (table, other))
            message = (
                f"{part}: the columns are {here}, those of {first.name} are {there}; all parts need the same "
                'ones, each in a header (Spark: `.option("header", True)`)'
            )
            raise DataError(message)
    try:
        return pl.concat([part for _, part in parts], how="diagonal_relaxed") if others else table
    except pl.exceptions.PolarsError as error:
        message = f"{path}: the parts' columns have no type in common ({error}); write them again"
        raise DataError(message) from error


def table_parts(path: Path) -> tuple[Path, ...]:
    """List the files of a table: itself, or what a folder holds but for empty and hidden files and marks.

    Raises DataError when the folder holds none.
    """
    if not path.is_dir():
        return (path,)
    files = sorted(
        file
        for file in path.rglob("*")
        if not any(name.startswith((".", "_")) for name in file.relative_to(path).parts) and file.is_file()
    )
    parts = tuple(file for file in files if file.stat().st_size)
    if not parts:
        message = f"{path}: the folder holds no parts of a table; check the path in the `data` section"
        raise DataError(message)
    return parts


def column_names(path: Path, encoding: str | None = None) -> list[str]:
    """List the columns of a table without reading all of it; raises as `read_table` does."""
    first = table_parts(path)[0]
    ending = table_ending(first, path)
    if ending in _SEPARATORS:
        names = header_of(first, _SEPARATORS[ending], encoding)
    elif ending in _JSON_LINES:
        names = first_keys(first, encoding)
    else:
        names = [name for name in _read_parquet(first, rows=0).columns if name not in (FILE, LINE)]
    return [*names, *(name for name in _partition(first, path) if name not in names)]


def table_ending(path: Path, table: Path | None = None) -> str:
    """Give the ending that names a table's format, without ``.gz``; a part without one has its folder's.

    Raises DataError when it is none of `SUFFIXES`.
    """
    for named in (path, table or path):
        name = named.name.lower().removesuffix(".gz")
        ending = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)
        if ending is not None:
            return ending
        if path.suffix and not path.name.startswith("part-"):
            break
    step = other_kind(path) or "rename or convert it"
    if table not in (None, path):
        step += f", or move it out of the folder {table}, whose files are all read"
    message = f"{path}: the file's ending must be one of {', '.join(SUFFIXES)}; {step}"
    raise DataError(message)


def _read_part(part: Path, table: Path, notes: Notes, encoding: str | None) -> pl.DataFrame:
    ending = table_ending(part, table)
    if ending in _SEPARATORS:
        rows = read_delimited(part, _SEPARATORS[ending], notes, encoding=encoding)
    elif ending in _JSON_LINES:
        rows = read_json_lines(part, notes, encoding=encoding)
    else:
        rows = _read_parquet(part)
    values = _partition(part, table)
    return rows.with_columns(
        pl.lit(value, dtype=pl.String).alias(name)
        for name, value in values.items()
        if name not in rows.columns
    )


def _partition(part: Path, table: Path) -> dict[str, str | None]:
    """Read the columns that stand in the names of folders, as Hive writes them: ``date=2019-10-01``."""
    pairs = (piece.split("=", 1) for piece in part.parent.parts[len(table.parts) :] if "=" in piece)
    return {name: None if value == _NO_PARTITION else unquote(value) for name, value in pairs}


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


def catalogue_rows(source: ItemTableData, table: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    """Take id and texts of a table of items by the settings, as `assemble` takes them."""
    fields = source.text_fields or {name: name for name in _text_columns(table, source.item_id, notes)}
    require_columns(source.items, table, (source.item_id, *fields.values()))
    if not fields or ITEM in fields:
        message = (
            f"{source.items}: items need at least one text field, and none may be called {ITEM!r}, got "
            f"{list(fields)}; name them in `data.text_fields` as `name: column`"
        )
        raise DataError(message)
    table = table.with_columns(
        _as_json(table[name]) for name in {*fields.values()} if table[name].dtype.is_nested()
    )
    table = empty_as_null(table, list({source.item_id, *fields.values()}), source.null_words, notes)
    texts = [as_text(table[column]).alias(name) for name, column in fields.items()]
    rows = table.select(FILE, LINE, id_texts(table[source.item_id]).alias(ITEM)).with_columns(texts)
    return _in_words(rows, list(fields), notes)


def _in_words(rows: pl.DataFrame, fields: Sequence[str], notes: Notes) -> pl.DataFrame:
    """Write lists and objects that stand in texts as words; notes take them before and after."""
    for name in fields:
        text = pl.col(name)
        written = rows.with_row_index("_row").filter(text.str.contains(r"^\s*[\[{]"))
        bare = text.str.strip_chars()
        is_json = bare.str.json_path_match("$").is_not_null()
        words = pl.when(is_json).then(text_of_json(bare, ", ")).otherwise(text_of_list(bare)).alias("_words")
        changed = written.with_columns(words).filter(pl.col("_words") != bare)
        shown = pl.format(
            "{}: {} → {}", pl.lit(name), text.str.head(_SHOWN), pl.col("_words").str.head(_SHOWN)
        )
        message = "lists and objects in texts are written as words"
        notes.add("list-in-text", message, "repaired", changed, shown)
        if changed.height:
            rows = rows.with_columns(rows[name].clone().scatter(changed["_row"], changed["_words"]))
    return rows


def _text_columns(table: pl.DataFrame, item_id: str, notes: Notes) -> list[str]:
    """List the columns that may be text: not the id, nor those that only number the rows."""
    others = [name for name in table.columns if name not in (FILE, LINE, item_id)]
    index = [name for name in others if _is_index(table[name])]
    for name in index:
        message = (
            "columns without a name or with row numbers are no text (else name them in `data.text_fields`)"
        )
        notes.add("index-column", message, "noted", table.head(1), pl.format("'{}': {}", pl.lit(name), name))
    return [name for name in others if name not in index]


def _is_index(column: pl.Series) -> bool:
    if not column.name.strip() or re.match(rf"{UNNAMED}\d+$|__index_level_\d+__$", column.name):
        return True
    if column.name.lower() not in _INDEX_NAMES or column.dtype.is_nested():
        return False
    counted = pl.Series(range(len(column)))
    return bool(column.cast(pl.Int64, strict=False).eq_missing(counted).all())


def read_events(
    source: TableData,
    path: Path,
    notes: Notes,
    *,
    day_first: bool | None = None,
    table: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Read a table of events by the column names of the settings, as `mend_events` takes them.

    A `table` that is there already is read like a file's; `path` is what it is called. Raises DataError when
    the file or a column is missing, or no time can be read.
    """
    if table is None:
        table = read_table(path, notes, source.encoding)
    else:
        table = table.with_columns(pl.lit(str(path)).alias(FILE), pl.int_range(1, pl.len() + 1).alias(LINE))
    return _events(source, path, table, notes, day_first)


def _events(
    source: TableData, path: Path, table: pl.DataFrame, notes: Notes, day_first: bool | None = None
) -> pl.DataFrame:
    wanted = [source.user_column, source.item_column]
    wanted += [source.time_column] if source.time_column else []
    require_columns(path, table, wanted)
    table = empty_as_null(table, wanted, source.null_words, notes)
    events = table.select(
        FILE,
        LINE,
        id_texts(table[source.user_column]).alias(USER),
        id_texts(table[source.item_column]).alias(ITEM),
    )
    if source.time_column is None:
        return events
    times = read_times(table, source.time_column, notes, form=source.time_format, day_first=day_first)
    return events.with_columns(times.alias(TIME))


def _from_histories(source: TableData, path: Path, table: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    require_columns(path, table, (source.user_column, source.history_column))
    table = empty_as_null(table, [source.user_column], source.null_words, notes)
    lists = table[source.history_column]
    rows = table.select(FILE, LINE, id_texts(table[source.user_column]).alias(USER))
    if isinstance(lists.dtype, pl.List | pl.Array):
        rows = rows.with_columns(id_texts(lists).fill_null([]).alias(ITEMS))
    else:
        text = as_text(lists).fill_null("").alias("_text")
        rows = rows.with_columns(text).with_columns(ids_in_text(pl.col("_text")).alias(ITEMS))
        unread = rows.filter(pl.col(ITEMS).is_null())
        notes.add("bad-row", "rows whose history is no list of ids are left out", "dropped", unread, "_text")
        rows = rows.filter(pl.col(ITEMS).is_not_null()).drop("_text")
    again = rows.filter(~pl.col(USER).str.strip_chars().is_first_distinct())
    notes.add("further-row", "further rows of a user are put behind the first", "repaired", again, USER)
    return explode_lists(rows, notes)


def as_text(column: pl.Series) -> pl.Series:
    """Write any column as text: flat lists by spaces, nested values as JSON, 5.0 of whole floats as 5."""
    frame = column.to_frame("_value")
    value = pl.col("_value")
    inner = column.dtype.inner if isinstance(column.dtype, pl.List | pl.Array) else None
    if inner is not None and not inner.is_nested():
        flat = value.cast(pl.List(inner))
        text = flat.list.eval(pl.element().cast(pl.String)).list.join(" ", ignore_nulls=True)
    elif column.dtype.is_nested():
        return _as_json(column)
    elif column.dtype == pl.Binary:
        text = value.bin.encode("hex")
    elif column.dtype.is_float() and bool((column.drop_nulls() % 1 == 0).all()):
        text = value.cast(pl.Int64, strict=False).cast(pl.String)
    else:
        text = value.cast(pl.String)
    return frame.select(text).to_series()


def _as_json(column: pl.Series) -> pl.Series:
    value = pl.struct(pl.col(column.name).alias("_value"))
    text = value.struct.json_encode().str.strip_prefix('{"_value":').str.strip_suffix("}")
    return column.to_frame().select(text.alias(column.name)).to_series().set(column.is_null(), None)


ITEM_NAMES: Final = (
    "item_id",
    "id",
    "item",
    "itemid",
    "product_id",
    "asin",
    "parent_asin",
    "news_id",
    "movie_id",
    "sku",
)
_USER_NAMES: Final = ("user_id", "user", "userid", "uid", "customer_id", "session_id", "visitor_id")
_TIME_NAMES: Final = ("time", "timestamp", "ts", "datetime", "date", "event_time", "created_at")
_LIST_NAMES: Final = ("item_ids", "items", "history", "sequence", "item_list")


def table_named(folder: Path, names: set[str], stem: str) -> Path | None:
    """Find a table by its name without ending among the `names` of what lies in a folder."""
    for suffix in SUFFIXES:
        for name in (f"{stem}{suffix}", f"{stem}{suffix}.gz"):
            if name in names:
                return folder / name
    return folder / stem if (folder / stem).is_dir() else None


def column_for(path: Path, known: Iterable[str], setting: str) -> str:
    """Find the column that has one of the known names; DataError names the setting that tells it."""
    columns = column_names(path)
    found = first_match(columns, known)
    if found is None:
        message = (
            f"{path}: can't tell which column is `{setting}` (looked for {', '.join(known)}); "
            f"the columns are "
            f"{', '.join(columns) or 'none'}. Write a configuration with `data.{setting}` and give that file"
        )
        raise DataError(message)
    return found


def first_match(columns: Iterable[str], known: Iterable[str]) -> str | None:
    """Find the first of the known names, which are in small letters, among columns."""
    by_lower = {column.lower(): column for column in reversed(list(columns))}
    return next((by_lower[name] for name in known if name in by_lower), None)
