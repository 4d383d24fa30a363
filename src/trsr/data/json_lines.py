"""JSON lines as columns of text, with the line on which every row stands.

Files that are nearly so are read as well, and what was done is noted: one array of objects,
objects over several lines or several on one, NaN and infinity, commas before a closing bracket,
and objects as Python writes them.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl

from trsr.data.cleaning import python_value
from trsr.data.notes import FILE, LINE, Notes
from trsr.data.text_files import TEXT, line_blocks, refuse_reserved
from trsr.errors import DataError

_NAME: Final = r'"\s*:'
_BETWEEN: Final = re.compile(r"[\s,\ufeff]*")
_STRING_OR_COMMA: Final = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])', re.DOTALL)
_NOT_FINITE: Final = "numbers that are not finite (NaN, Infinity) are read as null"
_REPEATED: Final = "keys that an object repeats are read once, the first"
_NOT_JSON: Final = "lines that are JSON but for quotes, commas or several objects are read"


def read_json_lines(
    path: Path, notes: Notes, columns: Sequence[str] | None = None, *, encoding: str | None = None
) -> pl.DataFrame:
    """Read the wanted keys of a JSON-lines file, gzipped or not; None: every key that occurs.

    Gives `FILE`, `LINE`, then one String column per key: texts as they are, numbers, lists and
    objects as JSON text, null where a line has no such key. Lines that are no JSON object are left
    out and noted. For `encoding` see `trsr.data.text_files.line_blocks`. Raises DataError when the
    file can't be read, or no line has one of the keys.
    """
    blocks = list(_object_blocks(path, notes, encoding))
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


def first_keys(path: Path, encoding: str | None = None) -> list[str]:
    """List the keys in the first block of lines."""
    for objects in _object_blocks(path, Notes(), encoding, 1 << 20):
        return keys(objects)
    return []


def _object_blocks(
    path: Path, notes: Notes, encoding: str | None, block_bytes: int = 1 << 26
) -> Iterator[pl.DataFrame]:
    blocks = line_blocks(path, notes, block_bytes, encoding=encoding)
    first = next(blocks, None)
    if first is None:
        return
    if _is_one_text(first):
        lines = pl.concat([first, *blocks])
        yield _by_id(_of_one_text(path, lines, notes), lines, notes)
        return
    yield _by_id(_objects(first, notes), first, notes)
    yield from (_objects(lines, notes) for lines in blocks)


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


def first_wins(pairs: Sequence[tuple[str, Any]], repeated: list[str]) -> dict[str, Any]:
    """Make an object of which the first of repeated keys counts; their names are added to `repeated`."""
    whole = dict(pairs)
    if len(whole) == len(pairs):
        return whole
    first = dict(reversed(pairs))
    repeated.extend(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
    return {name: first[name] for name in whole}


class _Decoder:
    """Reads objects from a text, and remembers what in it was no JSON."""

    def __init__(self) -> None:
        self.repairs: set[str] = set()
        self._json = json.JSONDecoder(
            object_pairs_hook=self._object, parse_float=self._number, parse_constant=self._number
        )

    def objects(self, text: str) -> list[dict[str, Any]]:
        """Give the objects of a line that was no plain JSON; ValueError when something else stands there."""
        self.repairs = set()
        for mended in (text, _STRING_OR_COMMA.sub(r"\1", text)):
            try:
                found = [value for _, value in self.stream(mended, 0)]
            except (ValueError, RecursionError):
                continue
            if len(found) != 1 or mended != text or not text.rstrip().endswith("}"):
                self.repairs.add(_NOT_JSON)
            return found
        value = python_value(text.strip().rstrip(","))
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            message = "no object"
            raise ValueError(message)
        self.repairs = {_NOT_JSON}
        return [value]

    def stream(self, text: str, start: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Give the objects from a place on, each with its place, until the end or a closing bracket.

        Raises ValueError where something else stands.
        """
        place = _BETWEEN.match(text, start).end()  # type: ignore[union-attr]
        while place < len(text) and text[place] != "]":
            if text[place] != "{":
                message = "no object"
                raise json.JSONDecodeError(message, text, place)
            value, end = self._json.raw_decode(text, place)
            yield place, value
            place = _BETWEEN.match(text, end).end()  # type: ignore[union-attr]

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        repeated: list[str] = []
        found = first_wins(pairs, repeated)
        if repeated:
            self.repairs.add(_REPEATED)
        return found

    def _number(self, text: str) -> float | None:
        number = float(text)
        if math.isfinite(number):
            return number
        self.repairs.add(_NOT_FINITE)
        return None


def _objects(lines: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    """Keep lines that hold JSON objects, rewritten in one plain form."""
    lines = lines.filter(pl.col(TEXT).str.strip_chars() != "")
    plain = pl.col(TEXT).str.json_path_match("$")
    lines = lines.with_columns(plain.alias("_json"))
    good = pl.col("_json").str.starts_with("{").fill_null(False)
    good &= pl.col(TEXT).str.strip_chars().str.starts_with("{")
    # What was parsed has fewer keys than what was written: a key was there twice.
    good &= pl.col("_json").str.count_matches(_NAME) == pl.col(TEXT).str.count_matches(_NAME)
    mended = _mended(lines.filter(~good), notes)
    read = lines.filter(good).select(FILE, LINE, pl.col("_json").alias(TEXT))
    return pl.concat([read, mended]).sort(LINE, maintain_order=True) if mended.height else read


def _mended(lines: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    """Read lines that are no plain JSON object one by one; what can't be read is left out."""
    decoder = _Decoder()
    texts: list[list[str]] = []
    repairs: list[set[str]] = []
    for text in lines[TEXT]:
        try:
            texts.append([_plain(value) for value in decoder.objects(text)])
            repairs.append(decoder.repairs)
        except ValueError:
            texts.append([])
            repairs.append(set())
    for message in (_NOT_FINITE, _REPEATED, _NOT_JSON):
        concerned = lines.filter(pl.Series([message in made for made in repairs], dtype=pl.Boolean))
        notes.add("mended-json", message, "repaired", concerned, TEXT)
    lines = lines.with_columns(pl.Series("_json", texts, dtype=pl.List(pl.String)))
    bad = lines.filter(pl.col("_json").list.len() == 0)
    notes.add("bad-row", "lines that are no JSON object are left out", "dropped", bad, TEXT)
    read = lines.filter(pl.col("_json").list.len() > 0).explode("_json")
    return read.select(FILE, LINE, pl.col("_json").alias(TEXT))


def _plain(value: dict[str, Any]) -> str:
    """Write an object as JSON; halves of surrogate pairs, which no UTF-8 text can hold, are replaced."""
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except TypeError as error:
        raise ValueError(str(error)) from error
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _is_one_text(lines: pl.DataFrame) -> bool:
    """Tell a file that must be read as a whole: an array, or objects over several lines."""
    first = lines.filter(pl.col(TEXT).str.strip_chars() != "")[TEXT].str.strip_chars().head(1).to_list()
    return bool(first) and (first[0] in ("[", "{") or re.match(r"\[\s*\{", first[0]) is not None)


def _of_one_text(path: Path, lines: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    """Read objects from a file that is no JSON lines; DataError names the line with anything else."""
    text = lines[TEXT].str.join("\n").item() or ""
    decoder = _Decoder()
    places: list[int] = []
    objects: list[str] = []
    line, seen = 1, 0
    try:
        for place, value in decoder.stream(text, text.index("[") + 1 if text.lstrip()[0] == "[" else 0):
            line, seen = line + text.count("\n", seen, place), place
            places.append(line)
            objects.append(_plain(value))
    except (ValueError, RecursionError) as error:
        at = error.lineno if isinstance(error, json.JSONDecodeError) else line
        shown = lines[TEXT][at - 1][:80] if at <= lines.height else ""
        message = f"{path}:{at}: no JSON ({error}), got {shown!r}; write one object a line, or one array"
        raise DataError(message) from error
    read = pl.DataFrame(
        {FILE: [path.name] * len(places), LINE: places, TEXT: objects},
        schema={FILE: pl.String, LINE: pl.Int64, TEXT: pl.String},
    )
    message = "the file is one JSON text, not an object a line, and read so"
    notes.add("mended-json", message, "noted", read.head(1), TEXT)
    for message in sorted(decoder.repairs):
        notes.count("mended-json", message, "repaired", 1, (f"{path.name}:1: (the whole file is one text)",))
    return read


def _by_id(objects: pl.DataFrame, lines: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    """Make an object a row of one that holds objects or lists by their ids: ``id``, and fields or ``values``.

    Anything else stays as it is. Rows have the lines of their ids, where each id begins one.
    """
    if objects.height != 1:
        return objects
    whole = json.loads(objects[TEXT][0])
    kinds = {type(value) for value in whole.values()}
    if len(whole) < 2 or kinds not in ({dict}, {list}):
        return objects
    notes.add("by-id", "the file is one object, ids to fields or lists, and read so", "noted", objects, TEXT)
    started = lines.select(LINE, pl.col(TEXT).str.extract(r'^\s*("(?:[^"\\]|\\.)*")\s*:', 1)).drop_nulls()
    places = {json.loads(key): line for line, key in reversed(started.rows())}
    rows = [
        {"id": name, **({"values": _listed(value)} if isinstance(value, list) else value)}
        for name, value in whole.items()
    ]
    return pl.DataFrame(
        {
            FILE: [objects[FILE][0]] * len(rows),
            LINE: [places.get(name, objects[LINE][0]) for name in whole],
            TEXT: [_plain(row) for row in rows],
        },
        schema=objects.schema,
    )


def _listed(values: list[Any]) -> str:
    return ", ".join(
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values
    )


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
