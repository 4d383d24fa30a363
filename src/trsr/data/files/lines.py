"""Text files as numbered lines: unpacked, decoded and mended, block by block."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final, cast

import polars as pl

from trsr.data.notes import FILE, LINE, Notes
from trsr.errors import DataError

TEXT: Final = "_text"
"""Column of raw frames: the line itself, without its end."""

_BLOCK_BYTES: Final = 1 << 26
_GZIP_MAGIC: Final = b"\x1f\x8b"
_UTF8_BOM: Final = b"\xef\xbb\xbf"
_UTF16_BOMS: Final = (b"\xff\xfe", b"\xfe\xff")


def read_lines(path: Path, notes: Notes) -> pl.DataFrame:
    """Read a whole text file as rows of `FILE`, `LINE` and `TEXT`.

    Raises
    ------
    DataError
        When the file is missing, unreadable, UTF-16, or a damaged gzip file.
    """
    return pl.concat([_no_lines(), *line_blocks(path, notes)])


def line_blocks(path: Path, notes: Notes, block_bytes: int = _BLOCK_BYTES) -> Iterator[pl.DataFrame]:
    """Read a text file, gzipped or not, as blocks of whole lines; see `read_lines`.

    Invalid UTF-8 is replaced by U+FFFD, NUL bytes and a byte-order mark are
    removed; all are noted with file and line.
    """
    done = 0
    for block in _byte_blocks(path, block_bytes):
        if not done:
            if block.startswith(_UTF16_BOMS):
                message = f"{path}: is UTF-16; save it as UTF-8 and try again"
                raise DataError(message)
            if block.startswith(_UTF8_BOM):
                block = block[len(_UTF8_BOM) :]
                notes.count(
                    "byte-order-mark",
                    "a byte-order mark at the file's start is removed",
                    "repaired",
                    1,
                    (f"{path.name}:1: U+FEFF",),
                )
        lines = _decoded(block, path, done, notes)
        done += lines.height
        yield lines


def _no_lines() -> pl.DataFrame:
    return pl.DataFrame(schema={FILE: pl.String, LINE: pl.Int64, TEXT: pl.String})


def _byte_blocks(path: Path, block_bytes: int) -> Iterator[bytes]:
    """Yield the unpacked file in blocks that end at line ends (the end itself is cut off)."""
    try:
        with _opened(path) as stream:
            rest = b""
            while data := stream.read(block_bytes):
                whole, end, tail = data.rpartition(b"\n")
                if not end:
                    rest += data
                    continue
                yield rest + whole
                rest = tail
            if rest:
                yield rest
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        message = f"{path}: the gzip file is cut short or damaged ({error}); fetch or pack it again"
        raise DataError(message) from error
    except FileNotFoundError as error:
        message = f"{path}: no such file; check the path in the `data` section"
        raise DataError(message) from error
    except OSError as error:
        message = f"{path}: can't be read ({error.strerror or error}); check that it is a readable file"
        raise DataError(message) from error


def _opened(path: Path) -> IO[bytes]:
    with path.open("rb") as stream:
        packed = stream.read(2) == _GZIP_MAGIC
    return cast("IO[bytes]", gzip.open(path, "rb")) if packed else path.open("rb")


def _decoded(block: bytes, path: Path, done: int, notes: Notes) -> pl.DataFrame:
    try:
        text, damaged = block.decode("utf-8"), []
    except UnicodeDecodeError:
        text, damaged = block.decode("utf-8", errors="replace"), _damaged_lines(block)
    lines = pl.DataFrame({TEXT: [text]}).select(pl.col(TEXT).str.split("\n").explode())
    lines = lines.select(
        pl.lit(path.name).alias(FILE),
        pl.int_range(done + 1, done + 1 + pl.len(), dtype=pl.Int64).alias(LINE),
        pl.col(TEXT).str.strip_suffix("\r"),
    )
    if damaged:
        notes.add(
            "bad-encoding",
            "bytes that are not UTF-8 are replaced by U+FFFD",
            "repaired",
            lines[damaged],
            TEXT,
        )
    if "\0" in text:
        nul = lines.filter(pl.col(TEXT).str.contains("\0", literal=True))
        notes.add("nul-byte", "NUL bytes are removed", "repaired", nul, TEXT)
        lines = lines.with_columns(pl.col(TEXT).str.replace_all("\0", "", literal=True))
    return lines


def _damaged_lines(block: bytes) -> list[int]:
    """Find the lines that are not UTF-8; only damaged blocks are looked at line by line."""
    damaged = []
    for number, line in enumerate(block.split(b"\n")):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError:
            damaged.append(number)
    return damaged
