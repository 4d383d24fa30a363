"""Scores of an outside system, read and checked against the frozen candidates."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, get_args

import polars as pl

from trsr.artifacts import RunFolder, write_parquet
from trsr.config.evaluation import LanguageModelName
from trsr.data.delimited import read_delimited
from trsr.data.ids import id_texts, mended_ids
from trsr.data.notes import FILE, LINE, Notes
from trsr.errors import ConfigError, DataError
from trsr.interop.candidates import Frozen, from_plain, imported_path, open_frozen, read_run
from trsr.records import FUSED, ITEM, NO_SUMMARY, SCORE, SPLIT, USER, Split
from trsr.registry import BASELINES

_TREC: Final = (".txt", ".run", ".trec")
_SEPARATORS: Final = {".csv": ",", ".tsv": "\t"}
_ENDINGS: Final = (*_SEPARATORS, ".parquet", *_TREC)


def read_scores(file: Path, frozen: Frozen) -> pl.DataFrame:
    """Read an outside system's scores: `LINE`, `USER`, `ITEM` and `SCORE`.

    The file is a table (``.csv``, ``.tsv``, ``.parquet``) or a TREC run (``.txt``, ``.run``, ``.trec``); text
    may be gzipped. For Parquet `LINE` is the row's number, from 1. Tables have the columns ``user_id``,
    ``item_id`` and ``score``; other columns are passed over. Columns such as ``user_id:token`` are those of
    the exported RecBole files, whose ids are written as `to_plain` does.

    Raises DataError when the file can't be read, a column is missing, or a score is no number.
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


_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_TAKEN: Final = frozenset({NO_SUMMARY, FUSED, *BASELINES, *get_args(LanguageModelName)})


def import_scores(folder: RunFolder, file: Path, name: str) -> Path:
    """Put an outside system's scores into ``imported/NAME.parquet``; an earlier import is replaced.

    For the forms of the file see `read_scores`; `name` is what tables call the system. Returns the file
    that was written: `USER`, `SPLIT`, `ITEM` and `SCORE`.

    Raises ConfigError when the name is none for a file, or is one of TRSR's own systems, and DataError when
    the file can't be read, or does not hold exactly the frozen candidates.
    """
    if not _NAME.fullmatch(name):
        message = (
            f"--name must be letters, digits and . _ + -, beginning with a letter or digit, got {name!r}"
        )
        raise ConfigError(message)
    if name in _TAKEN:
        message = f"--name must not be that of a system of TRSR, got {name!r}; try {name}-outside"
        raise ConfigError(message)
    frozen = open_frozen(folder)
    scores = checked_scores(read_scores(file, frozen), frozen, file)
    path = imported_path(folder, name)
    write_parquet(scores, path)
    return path


def checked_scores(rows: pl.DataFrame, frozen: Frozen, file: Path) -> pl.DataFrame:
    """Hold rows of scores against the frozen candidates; `file` is where they come from, for messages.

    Every pair of the test split must be there, of all samplers; the validation split is
    whole or absent (without it the system can't be chosen by validation). A pair may
    stand there twice, once a sampler, with the same score. DataError names file and line of
    the first row at fault.

    Takes `LINE`, `USER`, `ITEM` and `SCORE`, and gives `USER`, `SPLIT`, `ITEM` and `SCORE`, each pair
    once, by user and item.
    """
    pairs = frozen.all_pairs()
    _refuse_foreign(rows, pairs, frozen, file)
    scores = pl.col(SCORE)
    differing = rows.filter((scores.n_unique() > 1).over(USER, ITEM))
    if differing.height:
        line, user, item = differing.row(1)[:3]
        message = (
            f"{file}:{line}: user {user!r}, item {item!r} has another score than before; a system "
            "gives a pair one score, whatever the sampler"
        )
        raise DataError(message)
    distinct = rows.unique([USER, ITEM], maintain_order=True)
    joined = pairs.join(distinct.select(USER, ITEM, SCORE), on=[USER, ITEM], how="left")
    for split in (Split.TEST, Split.VALID):
        mine = joined.filter(pl.col(SPLIT) == split.value)
        missing = mine.filter(scores.is_null())
        absent = missing.height == mine.height and split is Split.VALID
        if missing.height and not absent:
            user, item = missing.select(USER, ITEM).row(0)
            message = (
                f"{file}: lacks {missing.height:,} of {mine.height:,} pairs of the {split} split, the first "
                f"is user {user!r}, item {item!r}; score every pair that `trsr export` lists"
            )
            raise DataError(message)
    return joined.filter(scores.is_not_null()).select(USER, SPLIT, ITEM, SCORE).sort(USER, ITEM)


def _refuse_foreign(rows: pl.DataFrame, pairs: pl.DataFrame, frozen: Frozen, file: Path) -> None:
    extra = rows.join(pairs, on=[USER, ITEM], how="anti", maintain_order="left")
    if extra.is_empty():
        return
    line, user, item = extra.select(LINE, USER, ITEM).row(0)
    known = frozen.prepared.histories.filter(pl.col(USER) == user)
    if known.is_empty():
        why = f"there is no user {user!r} in this run"
    elif known[SPLIT][0] == Split.TRAIN.value:
        why = f"user {user!r} is of the train split, which nobody is measured on"
    else:
        why = f"item {item!r} is no candidate of user {user!r}"
    message = (
        f"{file}:{line}: {why} ({extra.height:,} rows that are no frozen candidates); score exactly the "
        "pairs that `trsr export` lists"
    )
    raise DataError(message)
