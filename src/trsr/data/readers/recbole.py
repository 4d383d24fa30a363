"""RecBole's atomic files: `NAME.inter` and `NAME.item`, by tab, each field with its type in the header."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from trsr.config.data import RecBoleData
from trsr.data.cleaning import is_empty
from trsr.data.dataset import Dataset, Reader
from trsr.data.delimited import read_delimited
from trsr.data.notes import FILE, LINE, Notes, noting
from trsr.data.readers.amazon import stitched
from trsr.data.readers.tables import as_text
from trsr.data.repair import assemble, explode_lists, rated
from trsr.data.text_files import require_columns
from trsr.data.times import read_times
from trsr.errors import DataError
from trsr.records import HISTORY, ITEM, ITEMS, TIME, USER

_TYPES: Final = ("token", "token_seq", "float", "float_seq")
_PARTS: Final = (".train.inter", ".valid.inter", ".test.inter")
_LIST_SUFFIX: Final = "_list"
_LONGEST_STITCHED: Final = 200
"""Stitching compares every two rows at every gap; RecBole cuts lists at 50 items."""


class RecBole(Reader):
    """RecBole's atomic files."""

    Settings = RecBoleData
    signs = "RecBole (NAME.inter, NAME.item)"

    def files(self) -> tuple[Path, ...]:
        """List the item file, then the files of interactions.

        Raises DataError when the name can't be told, or a file is not there.
        """
        source: RecBoleData = self.settings
        name = source.name or _only_name(source)
        inters = [source.path / file for file in source.files or _inter_files(source.path, name)]
        item_file = source.path / f"{name}.item"
        if not inters or not item_file.is_file():
            wanted = item_file if inters else source.path / f"{name}.inter"
            message = (
                f"{wanted}: no such file; RecBole's data are NAME.inter and, for the texts, NAME.item with a "
                f"header such as `{source.item_field}:token<tab>title:token_seq`. Put it there, or set "
                "data.name or data.path"
            )
            raise DataError(message)
        return item_file, *inters

    @noting
    def read(self, notes: Notes, seed: int) -> Dataset:
        """Read RecBole's atomic files: rows of one interaction, or of a list of items and the next one.

        Raises DataError when a file or field is missing, a field has no known type, or nothing is left.
        """
        source: RecBoleData = self.settings
        item_file, *inter_files = self.files()
        items = _items(item_file, source, notes)
        tables = [_read_typed(path, source, notes)[0] for path in inter_files]
        lists = f"{source.item_field}{_LIST_SUFFIX}"
        with_lists = {lists in table.columns for table in tables}
        if len(with_lists) == 2:
            message = (
                f"{source.path}: only some of the files of interactions have the field {lists!r}; set "
                "data.files"
            )
            raise DataError(message)
        take = _listed if with_lists == {True} else _single
        rows = [take(path, table, source, notes) for path, table in zip(inter_files, tables, strict=True)]
        if len({tuple(table.columns) for table in rows}) > 1:
            message = (
                f"{source.path}: only some of the files have the field {source.time_field!r}; set data.files"
            )
            raise DataError(message)
        events = pl.concat(rows)
        if with_lists == {True}:
            events = _stitched_where_needed(events, notes)
        return assemble(items, events, notes, null_words=source.null_words, seed=seed)

    @classmethod
    def detect(cls, folder: Path, names: set[str]) -> RecBoleData | None:
        """Recognise the files; see `Reader`."""
        known = any(name.endswith(".inter") for name in names)
        return RecBoleData(format="recbole", path=folder) if known else None


def _only_name(source: RecBoleData) -> str:
    found = sorted({_name_of(path.name) for path in source.path.glob("*.inter")})
    if len(found) != 1:
        what = f"the names {', '.join(found)}" if found else "no file *.inter"
        message = f"{source.path}: there is {what}; set data.name to what stands before .inter and .item"
        raise DataError(message)
    return found[0]


def _name_of(file: str) -> str:
    ending = next((ending for ending in (*_PARTS, ".inter") if file.endswith(ending)), "")
    return file.removesuffix(ending)


def _inter_files(folder: Path, name: str) -> list[str]:
    if (folder / f"{name}.inter").is_file():
        return [f"{name}.inter"]
    return [f"{name}{part}" for part in _PARTS if (folder / f"{name}{part}").is_file()]


def _read_typed(path: Path, source: RecBoleData, notes: Notes) -> tuple[pl.DataFrame, dict[str, str]]:
    """Read a file, its columns called without their types; give the type of each, too."""
    table = read_delimited(path, "\t", notes, encoding=source.encoding)
    headers = [name for name in table.columns if name not in (FILE, LINE)]
    types = {name: kind for name, _, kind in (header.rpartition(":") for header in headers)}
    for header in headers:
        name, _, kind = header.rpartition(":")
        if not name or kind not in _TYPES:
            message = (
                f"{path}:1: the header must name each field with its type (one of {', '.join(_TYPES)}), such "
                f"as `{name or header}:token`, got {header!r}; mend it, or read the file as own tables"
            )
            raise DataError(message)
    if len(types) < len(headers):
        message = f"{path}:1: field names must differ, got {', '.join(map(repr, headers))}; mend the header"
        raise DataError(message)
    return table.rename({header: header.rpartition(":")[0] for header in headers}), types


def _items(path: Path, source: RecBoleData, notes: Notes) -> pl.DataFrame:
    """Take all fields as texts, a title first; numbers are checked, and lists of numbers are none."""
    table, types = _read_typed(path, source, notes)
    require_columns(path, table, (source.item_field,))
    fields = [name for name in types if name != source.item_field and types[name] != "float_seq"]
    if not fields or ITEM in fields:
        message = (
            f"{path}:1: items need a field of text beside {source.item_field!r}, and none called {ITEM!r}, "
            f"got {', '.join(types)}; add one such as `title:token_seq`"
        )
        raise DataError(message)
    vectors = [name for name, kind in types.items() if kind == "float_seq"]
    notes.count(
        "number-lists",
        f"fields that are lists of numbers are no text: {', '.join(vectors)}",
        "noted",
        len(vectors),
    )
    for name in (name for name in fields if types[name] == "float"):
        table = _numbers_as_text(table, name, source, notes)
    fields.sort(key=lambda name: "title" not in name.lower() and "name" not in name.lower())
    texts = (pl.col(name).str.strip_chars() for name in fields)
    return table.select(FILE, LINE, pl.col(source.item_field).alias(ITEM), *texts)


def _numbers_as_text(table: pl.DataFrame, name: str, source: RecBoleData, notes: Notes) -> pl.DataFrame:
    numbers = table[name].str.strip_chars().cast(pl.Float64, strict=False)
    wrong = table.filter(numbers.is_null() & ~is_empty(pl.col(name), source.null_words))
    shown = pl.format("{}: {}", pl.lit(name), name)
    notes.add(
        "bad-number",
        "values of fields of type float that are no numbers are left out",
        "dropped",
        wrong,
        shown,
    )
    return table.with_columns(as_text(numbers.fill_nan(None)).alias(name))


def _single(path: Path, table: pl.DataFrame, source: RecBoleData, notes: Notes) -> pl.DataFrame:
    table = _with_ratings(path, table, source, notes)
    require_columns(path, table, (source.user_field, source.item_field))
    events = table.select(
        FILE, LINE, pl.col(source.user_field).alias(USER), pl.col(source.item_field).alias(ITEM)
    )
    if source.time_field not in table.columns:
        return events
    remedy = "mend the file, or set data.time_field to the field that holds the time"
    times = read_times(table, source.time_field, notes, remedy=remedy)
    return events.with_columns(times.alias(TIME))


def _with_ratings(path: Path, table: pl.DataFrame, source: RecBoleData, notes: Notes) -> pl.DataFrame:
    if source.min_rating:
        require_columns(path, table, (source.rating_field,))
    return rated(table, source.rating_field, source.min_rating, notes)


def _listed(path: Path, table: pl.DataFrame, source: RecBoleData, notes: Notes) -> pl.DataFrame:
    """Take rows of a list, and of the item after it where the file names one."""
    lists = f"{source.item_field}{_LIST_SUFFIX}"
    require_columns(path, table, (source.user_field, source.item_field))
    table = _with_ratings(path, table, source, notes)
    missing = table.filter(is_empty(pl.col(source.item_field), source.null_words))
    shown = pl.concat_str(source.user_field, lists, source.item_field, separator=" | ", ignore_nulls=True)
    notes.add("bad-row", "rows without the item after the list are left out", "dropped", missing, shown)
    return table.filter(~is_empty(pl.col(source.item_field), source.null_words)).select(
        FILE,
        LINE,
        pl.col(source.user_field).str.strip_chars().alias(USER),
        pl.col(source.item_field).str.strip_chars().alias(ITEM),
        pl.col(lists).str.extract_all(r"\S+").alias(HISTORY),
    )


def _stitched_where_needed(rows: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    """Make one sequence a user: the longest where the others start it, else as rolling rows are stitched.

    Raises DataError when lists are too long for that.
    """
    rows = rows.with_columns(pl.concat_list(HISTORY, ITEM).alias(ITEMS)).with_row_index("_place")
    again = ~pl.struct(USER, pl.col(ITEMS).list.join("\0")).is_first_distinct()
    repeats = rows.filter(again)
    notes.add("duplicate-row", "rows that repeat an earlier row are left out", "dropped", repeats, USER)
    rows = rows.filter(~again)
    whole = rows.sort(pl.col(ITEMS).list.len(), descending=True, maintain_order=True).unique(
        USER, keep="first", maintain_order=True
    )
    compared = rows.join(whole.select(USER, pl.col(ITEMS).alias("_whole")), on=USER, maintain_order="left")
    starts = pl.col("_whole").list.head(pl.col(ITEMS).list.len()) == pl.col(ITEMS)
    other = compared.filter(~starts.all().over(USER)).select(rows.columns)
    long = other.filter(pl.col(HISTORY).list.len() > _LONGEST_STITCHED)
    if long.height:
        message = (
            f"{long[FILE][0]}:{long[LINE][0]}: user {long[USER][0]!r} has rows that don't continue "
            f"each other, with lists of over {_LONGEST_STITCHED} items; set data.files to those with one row "
            "a user"
        )
        raise DataError(message)
    sequences = whole.join(other, on=USER, how="anti").select(FILE, LINE, USER, ITEMS)
    if other.height:
        stitched_rows = stitched(other.drop(ITEMS, "_place"), notes)
        sequences = pl.concat([sequences, stitched_rows.select(sequences.columns)])
    first = rows.unique(USER, keep="first").select(USER, "_place")
    return explode_lists(sequences.join(first, on=USER).sort("_place").drop("_place"), notes)
