"""Reading scores that an outside system wrote: a TREC run, or a table of user, item and score."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from trsr.data.files.delimited import read_delimited
from trsr.data.files.ids import id_texts, mended_ids
from trsr.data.notes import FILE, LINE, Notes
from trsr.errors import DataError
from trsr.exchange.frozen import Frozen
from trsr.exchange.plain_ids import from_plain
from trsr.exchange.trec import read_run
from trsr.records import ITEM, SCORE, USER

_TREC: Final = (".txt", ".run", ".trec")
_SEPARATORS: Final = {".csv": ",", ".tsv": "\t"}
_ENDINGS: Final = (*_SEPARATORS, ".parquet", *_TREC)


def read_scores(file: Path, frozen: Frozen) -> pl.DataFrame:
    """Read an outside system's scores.

    Tables have the columns ``user_id``, ``item_id`` and ``score``; other columns are passed
    over. Columns such as ``user_id:token`` are those of the exported RecBole files, whose ids
    are written as `to_plain` does.

    Parameters
    ----------
    file
        ``.csv``, ``.tsv``, ``.parquet``, or ``.txt``, ``.run``, ``.trec`` for a TREC run; text may be
        gzipped.
    frozen
        The run that the scores are for.

    Returns
    -------
    polars.DataFrame
        `LINE` (for Parquet the row's number, from 1), `USER`, `ITEM` and `SCORE`.

    Raises
    ------
    DataError
        When the file can't be read, a column is missing, or a score is no number.
    """
    ending = Path(file.stem).suffix if file.suffix == ".gz" else file.suffix
    if not file.is_file():
        message = f"{file}: no such file; give the file that the other system's scores are in"
        raise DataError(message)
    if ending in _TREC:
        rows = read_run(file, frozen.candidates)
    elif ending in _SEPARATORS:
        rows = _delimited(file, _SEPARATORS[ending])
    elif ending == ".parquet":
        rows = _parquet(file)
    else:
        message = (
            f"{file}: must end in {', '.join(_ENDINGS)}, to say what it is; got {ending or 'no ending'!r}"
        )
        raise DataError(message)
    texts = pl.col(SCORE).cast(pl.String)
    read = rows.select(LINE, USER, ITEM, pl.col(SCORE).cast(pl.Float64, strict=False), texts.alias("text"))
    bad = read.filter(
        pl.col(SCORE).is_null() | pl.col(SCORE).is_nan() | pl.col(USER).is_null() | pl.col(ITEM).is_null()
    )
    if bad.height:
        line, user, item, _, text = bad.row(0)
        message = (
            f"{file}:{line}: score must be a number, got {text!r} for user {user!r}, item {item!r} "
            f"({bad.height:,} such rows)"
        )
        raise DataError(message)
    return read.drop("text")


def _delimited(file: Path, separator: str) -> pl.DataFrame:
    notes = Notes()
    table = read_delimited(file, separator, notes)
    broken = [finding for finding in notes.findings() if finding.rule == "bad-row"]
    if broken:
        message = (
            f"{file}: {broken[0].count:,} rows have a wrong number of fields, such as {broken[0].examples[0]}"
        )
        raise DataError(message)
    return _columns(table, file)


def _parquet(file: Path) -> pl.DataFrame:
    try:
        table = pl.read_parquet(file)
    except (pl.exceptions.PolarsError, OSError) as error:
        message = f"{file}: not a readable Parquet file ({error})"
        raise DataError(message) from error
    return _columns(table.with_row_index(LINE, offset=1).with_columns(pl.col(LINE).cast(pl.Int64)), file)


def _columns(table: pl.DataFrame, file: Path) -> pl.DataFrame:
    """Keep line, user, item and score; a type behind a name marks RecBole's form, whose ids are plain."""
    named = {name.partition(":")[0]: name for name in reversed(table.columns)}
    missing = [name for name in (USER, ITEM, SCORE) if name not in named]
    if missing:
        present = ", ".join(name for name in table.columns if not name.startswith("_")) or "none"
        message = f"{file}: no column {', '.join(map(repr, missing))}; the columns are {present}"
        raise DataError(message)
    ids = [id_texts(table[named[name]]).alias(name) for name in (USER, ITEM)]
    as_exported = [from_plain(column) if ":" in named[str(column.name)] else column for column in ids]
    place = [pl.Series(FILE, [file.name]).new_from_index(0, table.height), table[LINE]]
    rows = pl.DataFrame([*place, *as_exported, table[named[SCORE]].alias(SCORE)])
    notes = Notes()
    rows = mended_ids(rows, (USER, ITEM), notes)
    if lost := [finding for finding in notes.findings() if finding.action == "dropped"]:
        message = f"{file}: {lost[0].count:,} rows without user or item, such as {lost[0].examples[0]}"
        raise DataError(message)
    return rows.drop(FILE)
