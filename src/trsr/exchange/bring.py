"""Bringing an outside system's scores into a run, checked pair by pair against the frozen candidates."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, get_args

import polars as pl

from trsr.artifacts import RunFolder, write_parquet
from trsr.config.experiments import BaselineName, LanguageModelName
from trsr.data.notes import LINE
from trsr.errors import ConfigError, DataError
from trsr.exchange.frozen import FUSED, OWN, Frozen, imported_path, open_frozen
from trsr.exchange.scores_file import read_scores
from trsr.records import ITEM, SCORE, SPLIT, USER, Split

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_TAKEN: Final = frozenset({OWN, FUSED, *get_args(BaselineName), *get_args(LanguageModelName)})


def import_scores(folder: RunFolder, file: Path, name: str) -> Path:
    """Put an outside system's scores into ``imported/NAME.parquet``; an earlier import is replaced.

    Parameters
    ----------
    folder
        A prepared run.
    file
        A TREC run (``.txt``, ``.run``, ``.trec``), CSV, TSV or Parquet; see `read_scores`.
    name
        What tables call the system.

    Returns
    -------
    pathlib.Path
        The file that was written: `USER`, `SPLIT`, `ITEM` and `SCORE`.

    Raises
    ------
    ConfigError
        When the name is none for a file, or is one of TRSR's own systems.
    DataError
        When the file can't be read, or does not hold exactly the frozen candidates.
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
    """Hold rows of scores against the frozen candidates.

    Every pair of the test split must be there, of all samplers; the validation split is
    whole or absent (without it the system can't be chosen by validation). A pair may
    stand there twice, once a sampler, with the same score.

    Parameters
    ----------
    rows
        `LINE`, `USER`, `ITEM` and `SCORE`.
    frozen
        The run.
    file
        Where the rows come from, for messages.

    Returns
    -------
    polars.DataFrame
        `USER`, `SPLIT`, `ITEM` and `SCORE`, each pair once, by user and item.

    Raises
    ------
    DataError
        Naming file and line of the first row at fault.
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
