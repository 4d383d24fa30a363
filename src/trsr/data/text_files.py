"""Text files as numbered lines: unpacked, decoded and mended; files and columns that must be there."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import charset_normalizer
import polars as pl

from trsr.data.notes import FILE, LINE, Notes
from trsr.errors import DataError

TEXT: Final = "_text"
"""Column of raw frames: the line itself, without its end."""

_BLOCK_BYTES: Final = 1 << 26
_GZIP_MAGIC: Final = b"\x1f\x8b"
_START_BYTES: Final = 4096
_TAB: Final = 9
_AS_TEXT: Final = "save its table as CSV (UTF-8)"
_UNPACK: Final = "unpack it, or pack it by gzip"
_OTHER_KINDS: Final = {
    b"PK\x03\x04": ("a ZIP archive, as Excel's workbooks are", f"unpack it; of a workbook, {_AS_TEXT}"),
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook", _AS_TEXT),
    b"SQLite format 3": (
        "an SQLite database",
        "write each table out: sqlite3 -header -csv FILE 'select * from TABLE' > TABLE.csv",
    ),
    b"PAR1": ("a Parquet file", "let its name end in .parquet"),
    b"ARROW1": ("an Arrow file", "write it as Parquet"),
    b"ORC": ("an ORC file", "write it as Parquet"),
    b"Obj\x01": ("an Avro file", "write it as Parquet or JSON lines"),
    b"BZh": ("packed by bzip2", _UNPACK),
    b"\xfd7zXZ": ("packed by xz", _UNPACK),
    b"\x28\xb5\x2f\xfd": ("packed by zstd", _UNPACK),
    b"7z\xbc\xaf": ("a 7z archive", _UNPACK),
}
"""What files begin with that are no text: what they are, and the next step."""
_MARKS: Final = {
    codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip
"""Byte-order marks of encodings whose bytes are no ASCII; the longer ones first."""
_MARK: Final = "\ufeff"
_UNREADABLE: Final = "\ufffd"
_WESTERN: Final = "cp1252"
_CANDIDATES: Final = (
    "cp1252", "cp1250", "cp1251", "koi8_r", "cp1253", "cp1254", "cp1255", "cp1256",
    "cp932", "euc_jp", "gb18030", "big5", "euc_kr",
)  # fmt: skip
"""Encodings that a refusal may propose."""
_FEW: Final = 10
"""A file with so many readable accents for each unreadable one is UTF-8; fewer may be there by chance."""
_SAMPLE_LINES: Final = 20_000
_ODD_SHARE: Final = 0.02
_ODD_IN_WESTERN: Final = re.compile(
    "[¡-ÿ]{3,}|[šžŠŽðþÐÞýÝƒ]|[õÕ](?![eE])|(?<=[^\\W\\d_])[‚„†‡ˆ‰˜¤¥¦¨¬¯±µ¶¸¹³¿¼¾¡×÷](?=[^\\W\\d_])|(?<=[\\w‚])[‚„]"
)
"""What other encodings look like when they are read as cp1252: Cyrillic, Greek, Hebrew and Asian ones make
long runs of accents, Central European and Turkish ones letters that Western languages hardly use."""


def read_lines(path: Path, notes: Notes, *, encoding: str | None = None) -> pl.DataFrame:
    """Read a whole text file as rows of `FILE`, `LINE` and `TEXT`.

    Raises DataError when it is missing, unreadable, a damaged gzip file, or of an unknown encoding.
    """
    return pl.concat([_no_lines(), *line_blocks(path, notes, encoding=encoding)])


def line_blocks(
    path: Path, notes: Notes, block_bytes: int = _BLOCK_BYTES, *, encoding: str | None = None
) -> Iterator[pl.DataFrame]:
    """Read a text file, gzipped or not, as blocks of whole lines; see `read_lines`.

    Without an `encoding` a file is UTF-8, or UTF-16 or UTF-32 when it starts with their mark.
    Where few accents are not UTF-8, or `encoding` says so, wrong bytes are replaced by U+FFFD.
    Where more are not, their lines are read as cp1252 if they look like Western text; otherwise
    the file is refused, as encodings of other languages can't be told apart for sure. NUL bytes
    and byte-order marks are removed. All of it is noted with file and line.
    """
    if told := other_kind(path):
        message = f"{path}: {told}"
        raise DataError(message)
    wide = None if encoding else _wide_encoding(path)
    done, accents, unreadable = 0, 0, 0
    for block in _byte_blocks(path, block_bytes, encoding or wide):
        text, damaged = _decoded(block)
        # Every accent takes bytes beyond one a character.
        accents, unreadable = accents + len(block) - len(text), unreadable + text.count(_UNREADABLE)
        guessed = bool(damaged) and not encoding and accents < unreadable * _FEW
        if guessed:
            text = _as_western(block, damaged, path, done)
        lines = _numbered(text, path, done)
        if wide and not done:
            message = f"the file is {wide.upper()}, not UTF-8, and read so (`data.encoding`)"
            notes.add("encoding", message, "noted", lines.head(1), TEXT)
        _note_damage(lines, damaged, guessed, encoding or wide, notes)
        done += lines.height
        yield _without_marks(lines, text, notes)


def _note_damage(
    lines: pl.DataFrame, damaged: list[int], guessed: bool, encoding: str | None, notes: Notes
) -> None:
    if guessed:
        message = (
            f"lines that are not UTF-8 are read as {_WESTERN}, Western Windows (`data.encoding` sets another)"
        )
        notes.add("encoding", message, "repaired", lines[damaged], TEXT)
        return
    lost = pl.col(TEXT).str.contains(_UNREADABLE, literal=True)
    unread = lines.filter(lost) if encoding and not damaged else lines[damaged]
    message = f"bytes that are not {encoding or 'UTF-8'} are replaced by U+FFFD"
    notes.add("bad-encoding", message, "repaired", unread, TEXT)


def _no_lines() -> pl.DataFrame:
    return pl.DataFrame(schema={FILE: pl.String, LINE: pl.Int64, TEXT: pl.String})


@contextmanager
def _opened(path: Path) -> Iterator[io.BufferedReader | gzip.GzipFile]:
    """Open a file, gzipped or not; whatever goes wrong while it is read becomes a `DataError`."""
    try:
        with path.open("rb") as start:
            packed = start.read(2) == _GZIP_MAGIC
        with gzip.open(path, "rb") if packed else path.open("rb") as stream:
            yield stream
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        message = f"{path}: the gzip file is cut short or damaged ({error}); fetch or pack it again"
        raise DataError(message) from error
    except FileNotFoundError as error:
        message = f"{path}: no such file; check the path in the `data` section"
        raise DataError(message) from error
    except OSError as error:
        message = f"{path}: can't be read ({error.strerror or error}); check that it is a readable file"
        raise DataError(message) from error


def other_kind(path: Path) -> str:
    """Say what a file that is no text is, and what to do about it, by its first bytes; else nothing."""
    try:
        with path.open("rb") as stream:
            start = stream.read(_START_BYTES)
    except OSError:
        return ""
    kinds = (
        f"this is {what}; {step}" for sign, (what, step) in _OTHER_KINDS.items() if start.startswith(sign)
    )
    # A text may begin with letters such as ORC, but has no control characters as these files do.
    return next(kinds, "") if min(start, default=_TAB) < _TAB else ""


def _wide_encoding(path: Path) -> str | None:
    """Tell UTF-16 and UTF-32 by their mark, or by the zeros that they have between letters; else None."""
    with _opened(path) as stream:
        start = stream.read(_START_BYTES)
    marked = next((name for mark, name in _MARKS.items() if start.startswith(mark)), None)
    if marked or start.count(0) * 4 <= len(start):
        return marked
    return "utf-16-le" if start[1::2].count(0) > start[::2].count(0) else "utf-16-be"


def _byte_blocks(path: Path, block_bytes: int, encoding: str | None) -> Iterator[bytes]:
    """Yield the unpacked file in blocks that end at line ends (the end itself is cut off)."""
    with _opened(path) as stream:
        rest = b""
        for data in _chunks(stream, block_bytes, encoding):
            whole, end, tail = data.rpartition(b"\n")
            if not end:
                rest += data
                continue
            yield rest + whole
            rest = tail
        if rest:
            yield rest


def _chunks(stream: io.BufferedReader | gzip.GzipFile, size: int, encoding: str | None) -> Iterator[bytes]:
    """Read a stream, as UTF-8 when its encoding is known and another."""
    if encoding is None or codecs.lookup(encoding).name == "utf-8":
        yield from iter(lambda: stream.read(size), b"")
        return
    text = io.TextIOWrapper(stream, encoding, errors="replace", newline="")
    try:
        yield from (part.encode("utf-8", "replace") for part in iter(lambda: text.read(size), ""))
    finally:
        text.detach()


def _decoded(block: bytes) -> tuple[str, list[int]]:
    """Give a block as text, and the places of the lines that are not UTF-8."""
    try:
        return block.decode("utf-8"), []
    except UnicodeDecodeError:
        text = block.decode("utf-8", errors="replace")
    return text, [place for place, line in enumerate(block.split(b"\n")) if not _is_utf8(line)]


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _as_western(block: bytes, damaged: list[int], path: Path, done: int) -> str:
    """Read the damaged lines of a block as cp1252.

    Raises DataError when they don't look like a Western language's; it names encodings that they may be of.
    """
    lines = block.split(b"\n")
    sample = b"\n".join(lines[place] for place in damaged[:_SAMPLE_LINES])
    try:
        western = sample.decode(_WESTERN)
    except UnicodeDecodeError:
        western = ""
    odd = sum(len(match[0]) for match in _ODD_IN_WESTERN.finditer(western))
    if not western or odd > _ODD_SHARE * sum(not sign.isascii() for sign in western):
        raise _unknown_encoding(sample, f"{path}:{done + damaged[0] + 1}")
    wrong = set(damaged)
    return "\n".join(
        line.decode(_WESTERN if place in wrong else "utf-8", "replace") for place, line in enumerate(lines)
    )


def _unknown_encoding(sample: bytes, place: str) -> DataError:
    first = sample.split(b"\n", 1)[0]
    guesses = charset_normalizer.from_bytes(sample, cp_isolation=list(_CANDIDATES))
    read = [
        f"{guess.encoding} ({first.decode(guess.encoding, 'replace').strip()[:40]!r})" for guess in guesses
    ]
    return DataError(
        f"{place}: not UTF-8, and the encoding can't be told for sure; got {first[:40]!r}. Set data.encoding"
        + (f"; read as {', or as '.join(read[:3])}" if read else ", for example to cp1252 or shift_jis")
        + ". With utf-8 bytes that can't be read are replaced"
    )


def _numbered(text: str, path: Path, done: int) -> pl.DataFrame:
    lines = pl.DataFrame({TEXT: [text]}).select(pl.col(TEXT).str.split("\n").explode())
    return lines.select(
        pl.lit(path.name).alias(FILE),
        pl.int_range(done + 1, done + 1 + pl.len(), dtype=pl.Int64).alias(LINE),
        pl.col(TEXT).str.strip_suffix("\r"),
    )


def _without_marks(lines: pl.DataFrame, text: str, notes: Notes) -> pl.DataFrame:
    """Take off NUL bytes, and byte-order marks at the start of lines: files were put together there."""
    if _MARK in text:
        marked = lines.filter(pl.col(TEXT).str.starts_with(_MARK))
        notes.add(
            "byte-order-mark", "byte-order marks at the start of lines are removed", "repaired", marked, TEXT
        )
        lines = lines.with_columns(pl.col(TEXT).str.strip_prefix(_MARK))
    if "\0" in text:
        nul = lines.filter(pl.col(TEXT).str.contains("\0", literal=True))
        notes.add("nul-byte", "NUL bytes are removed", "repaired", nul, TEXT)
        lines = lines.with_columns(pl.col(TEXT).str.replace_all("\0", "", literal=True))
    return lines


def require_columns(path: Path, table: pl.DataFrame, columns: Iterable[str]) -> None:
    """Raise DataError, naming the missing columns and those present, when a table lacks a column."""
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
    """Raise DataError when a table's own columns have the names under which readers keep file and line."""
    reserved = sorted({FILE, LINE}.intersection(columns))
    if reserved:
        message = f"{path}: columns may not be called {', '.join(map(repr, reserved))}; rename them"
        raise DataError(message)


def require_files(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Give the paths back, or raise DataError naming those absent and what lies in their folder."""
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
