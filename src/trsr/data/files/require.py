"""Clear refusals for files and columns that are not there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from trsr.data.notes import FILE, LINE
from trsr.errors import DataError


def require_columns(path: Path, table: pl.DataFrame, columns: Iterable[str]) -> None:
    """Raise when a table lacks a column.

    Raises
    ------
    DataError
        Naming the missing columns and those present.
    """
    present = [name for name in table.columns if name not in (FILE, LINE)]
    missing = [name for name in columns if name not in present]
    if missing:
        message = (
            f"{path}: no column {', '.join(map(repr, missing))}; the columns are "
            f"{', '.join(map(repr, present)) or 'none'}. Name the right ones in the `data` section, or mend "
            "the file"
        )
        raise DataError(message)


def refuse_reserved(path: Path, columns: Iterable[str]) -> None:
    """Raise when a table's own columns have the names under which readers keep file and line.

    Raises
    ------
    DataError
        Naming the columns.
    """
    reserved = sorted({FILE, LINE}.intersection(columns))
    if reserved:
        message = f"{path}: columns may not be called {', '.join(map(repr, reserved))}; rename them"
        raise DataError(message)


def require_files(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Give the paths back when all are there.

    Raises
    ------
    DataError
        Naming those that are not there and what lies in their folder.
    """
    paths = tuple(paths)
    missing = [path for path in paths if not path.exists()]
    if missing:
        folder = missing[0].parent
        there = sorted(path.name for path in folder.iterdir())[:12] if folder.is_dir() else []
        what = f"it holds {', '.join(there) or 'nothing'}" if folder.is_dir() else "there is no such folder"
        message = (
            f"{', '.join(str(path) for path in missing)}: no such file (in {folder}: {what}); "
            "check the paths in the `data` section"
        )
        raise DataError(message)
    return paths
