"""JSON lines as columns of text, with the line on which every row stands."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from trsr.data.files.lines import TEXT, line_blocks
from trsr.data.files.require import refuse_reserved
from trsr.data.notes import FILE, LINE, Notes
from trsr.errors import DataError


def read_json_lines(path: Path, notes: Notes, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Read the wanted keys of a JSON-lines file.

    Parameters
    ----------
    path
        The file, gzipped or not.
    notes
        Lines that are no JSON object are left out and noted here.
    columns
        Keys to read; None: every key that occurs.

    Returns
    -------
    polars.DataFrame
        `FILE`, `LINE`, then one String column per key: texts as they are, numbers,
        lists and objects as JSON text, null where a line has no such key.

    Raises
    ------
    DataError
        When the file can't be read, or no line has one of the keys.
    """
    blocks = [_objects(lines, notes) for lines in line_blocks(path, notes)]
    if columns is not None:
        blocks = [_picked(block, columns) for block in blocks]
    if not blocks or not sum(block.height for block in blocks):
        message = f"{path}: no line is a JSON object; the file must hold one object a line"
        raise DataError(message)
    if columns is None:
        columns = list(dict.fromkeys(name for block in blocks for name in keys(block)))
        refuse_reserved(path, columns)
        blocks = [_picked(block, columns) for block in blocks]
    return pl.concat(blocks)


def first_keys(path: Path) -> list[str]:
    """List the keys in the first block of lines."""
    for lines in line_blocks(path, Notes(), 1 << 20):
        return keys(_objects(lines, Notes()))
    return []


def keys(objects: pl.DataFrame) -> list[str]:
    """List the keys that occur in a frame of JSON objects, in order of first occurrence."""
    text = objects.select(pl.col(TEXT).str.join("\n")).item() or ""
    if not text:
        return []
    try:
        return pl.scan_ndjson(io.BytesIO(text.encode()), infer_schema_length=None).collect_schema().names()
    except pl.exceptions.PolarsError:
        # Values of one key that have no type in common; rare, so that the slow way will do.
        return list(dict.fromkeys(name for line in text.split("\n") for name in json.loads(line)))


def _objects(lines: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    """Keep lines that hold one JSON object, rewritten in one plain form."""
    lines = lines.filter(pl.col(TEXT).str.strip_chars() != "")
    plain = pl.col(TEXT).str.json_path_match("$")
    lines = lines.with_columns(plain.alias("_json"))
    good = pl.col("_json").str.starts_with("{").fill_null(False) & pl.col(
        TEXT
    ).str.strip_chars().str.starts_with("{")
    notes.add("bad-row", "lines that are no JSON object are left out", "dropped", lines.filter(~good), TEXT)
    return lines.filter(good).select(FILE, LINE, pl.col("_json").alias(TEXT))


def _picked(objects: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    return objects.select(
        FILE, LINE, *(pl.col(TEXT).str.json_path_match(_path_of(name)).alias(name) for name in columns)
    )


def _path_of(name: str) -> str:
    """Quote a key for a JSON path; the path language loses its way in escaped quotes, so none are written."""
    quote = '"' if "'" in name else "'"
    if "\\" in name or quote in name:
        message = (
            f"key {name!r}: keys with a backslash or both kinds of quotes can't be read; "
            "rename the key in the file"
        )
        raise DataError(message)
    return f"$[{quote}{name}{quote}]"
