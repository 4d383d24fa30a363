"""CSV and TSV files as columns of text, with the line on which every row starts.

Quotes follow the usual rule: a quote opens a quoted field only where a field
starts, two quotes inside stand for one, and a quoted field may hold separators
and line ends. Which lines start a row is worked out for all lines at once: a
line is a map from "am I inside quotes before it" to the same after it, and such
maps compose to a running parity since the last line that settles the matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import polars as pl

from trsr.data.files.lines import TEXT, line_blocks, read_lines
from trsr.data.files.require import refuse_reserved
from trsr.data.notes import FILE, LINE, Notes
from trsr.errors import DataError

_FIELDS: Final = "_fields"
_HEIGHT: Final = "_height"
_FROM_OUT: Final = "_from_out"
_FROM_IN: Final = "_from_in"
_INSIDE: Final = "_inside"
_ROW: Final = "_row"
_RESYNC_LIMIT: Final = 25


def read_delimited(
    path: Path, separator: str, notes: Notes, *, columns: Sequence[str] | None = None, quoted: bool = True
) -> pl.DataFrame:
    """Read a delimited file.

    Parameters
    ----------
    path
        The file, gzipped or not.
    separator
        One character.
    notes
        Rows with a wrong number of fields are left out and noted here.
    columns
        Names of the columns of a file without header; None: the first row holds them.
    quoted
        False when quotes have no meaning in the file.

    Returns
    -------
    polars.DataFrame
        `FILE`, `LINE`, then one String column per column of the file.

    Raises
    ------
    DataError
        When the file can't be read, is empty, or its header repeats a name.
    """
    lines = read_lines(path, notes)
    if not lines.select((pl.col(TEXT).str.strip_chars() != "").any()).item():
        message = f"{path}: the file is empty; it must hold {'rows' if columns else 'a header and rows'}"
        raise DataError(message)
    if quoted and lines.select(pl.col(TEXT).str.contains('"', literal=True).any()).item():
        rows = _quoted_rows(lines, separator, len(columns) if columns else None, notes)
    else:
        rows = _plain_fields(lines.filter(pl.col(TEXT) != ""), separator)
    if columns is None:
        columns = _header(rows, path)
        rows = rows.slice(1)
    width = len(columns)
    wrong = rows.filter(pl.col(_FIELDS).list.len() != width)
    notes.add("bad-row", "rows with a wrong number of fields are left out", "dropped", wrong, TEXT)
    rows = rows.filter(pl.col(_FIELDS).list.len() == width)
    return rows.select(
        FILE, LINE, *(pl.col(_FIELDS).list.get(place).alias(name) for place, name in enumerate(columns))
    )


def header_of(path: Path, separator: str) -> list[str]:
    """Read the column names of a delimited file with a header; none when it is empty.

    Raises
    ------
    DataError
        When the file can't be read, or its header repeats a name.
    """
    for lines in line_blocks(path, Notes(), 1 << 16):
        first = lines.filter(pl.col(TEXT).str.strip_chars() != "").head(1)
        return (
            _header(_split_rows(first.with_columns(pl.lit(1).alias(_HEIGHT)), separator), path)
            if first.height
            else []
        )
    return []


def _header(rows: pl.DataFrame, path: Path) -> list[str]:
    names = [name.strip() for name in rows[_FIELDS][0]]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        message = f"{path}: column names must differ, got {', '.join(map(repr, repeated))} more than once"
        raise DataError(message)
    refuse_reserved(path, names)
    return names


def _plain_fields(rows: pl.DataFrame, separator: str) -> pl.DataFrame:
    return rows.with_columns(pl.col(TEXT).str.split(separator).alias(_FIELDS))


def _quoted_fields(rows: pl.DataFrame, separator: str) -> pl.DataFrame:
    """Split rows at separators outside quotes, and take the quotes off."""
    s = separator if separator != "\t" else r"\t"
    # Every match starts with a separator (one is put before the row), as an empty match would end the search.
    field = rf'{s}(?:"(?:[^"]|"")*"(?:[^"{s}][^{s}]*)?|[^{s}]*)'
    found = pl.concat_str(pl.lit(separator), pl.col(TEXT)).str.extract_all(field)
    bare = pl.element().str.slice(1)
    unquoted = bare.str.replace(r'(?s)^"((?:[^"]|"")*)"', "${1}").str.replace_all('""', '"', literal=True)
    taken_off = pl.when(bare.str.starts_with('"')).then(unquoted).otherwise(bare)
    return rows.with_columns(found.list.eval(taken_off).alias(_FIELDS))


def _split_rows(rows: pl.DataFrame, separator: str) -> pl.DataFrame:
    has_quote = pl.col(TEXT).str.contains('"', literal=True)
    plain = _plain_fields(rows.filter(~has_quote), separator)
    return pl.concat([plain, _quoted_fields(rows.filter(has_quote), separator)]).sort(LINE)


def _quoted_rows(lines: pl.DataFrame, separator: str, width: int | None, notes: Notes) -> pl.DataFrame:
    """Join lines to rows and split them; a quote that is never closed is taken as a plain character."""
    lines = lines.with_columns(*_quote_maps(separator))
    strays: list[int] = []
    while True:
        rows, open_row = _joined(lines)
        rows = _split_rows(rows.filter(pl.col(TEXT) != ""), separator)
        expected = width or len(rows[_FIELDS][0])
        broken = rows.filter(
            (pl.col(_HEIGHT) > 1) & ((pl.col(_FIELDS).list.len() != expected) | (pl.col(LINE) == open_row))
            | (pl.col(_HEIGHT) == 1) & (pl.col(LINE) == open_row)
        )
        if broken.is_empty() or len(strays) == _RESYNC_LIMIT:
            break
        # Only the first broken row is surely at fault: those after it may be broken by it.
        strays.append(broken[LINE][0])
        lines = lines.with_columns(
            (pl.col(_FROM_OUT) & (pl.col(LINE) != strays[-1])).alias(_FROM_OUT),
        )
    literal = pl.col(LINE).is_in(strays)
    as_plain = _plain_fields(rows.filter(literal), separator)
    mended = as_plain.filter(pl.col(_FIELDS).list.len() == expected)
    notes.add("stray-quote", "quotes that are never closed are taken as plain text", "repaired", mended, TEXT)
    return pl.concat([rows.filter(~literal), as_plain]).sort(LINE)


def _quote_maps(separator: str) -> tuple[pl.Expr, pl.Expr]:
    """Say for each line whether it ends inside quotes, when it starts outside, and when it starts inside."""
    s = separator if separator != "\t" else r"\t"
    field = rf'(?:"(?:[^"]|"")*"(?:[^"{s}][^{s}]*)?|[^"{s}][^{s}]*|)'
    ends_open = rf'^(?:{field}{s})*"(?:[^"]|"")*$'
    has_quote = pl.col(TEXT).str.contains('"', literal=True)
    from_out = has_quote & pl.col(TEXT).str.contains(ends_open)
    from_in = ~has_quote | pl.concat_str(pl.lit('"'), pl.col(TEXT)).str.contains(ends_open)
    return from_out.alias(_FROM_OUT), from_in.alias(_FROM_IN)


def _joined(lines: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Join the lines of each row; also give the line of a last row that never closes its quotes, or -1."""
    settles = pl.col(_FROM_OUT) == pl.col(_FROM_IN)
    turns = (pl.col(_FROM_OUT) & ~pl.col(_FROM_IN)).cast(pl.Int64).cum_sum()
    settled = pl.when(settles).then(pl.col(_FROM_OUT)).forward_fill().fill_null(False)
    turns_before = pl.when(settles).then(turns).forward_fill().fill_null(0)
    inside = lines.with_columns((settled != ((turns - turns_before) % 2 == 1)).alias(_INSIDE))
    starts = ~pl.col(_INSIDE).shift(1, fill_value=False)
    inside = inside.with_columns(starts.alias("_starts"), starts.cum_sum().alias(_ROW))
    alone = pl.col("_starts") & pl.col("_starts").shift(-1, fill_value=True)
    inside = inside.with_columns(alone.alias("_alone"))
    single = inside.filter("_alone").select(FILE, LINE, TEXT, pl.lit(1, dtype=pl.UInt32).alias(_HEIGHT))
    several = (
        inside.filter(~pl.col("_alone"))
        .group_by(_ROW, maintain_order=True)
        .agg(pl.col(FILE).first(), pl.col(LINE).first(), pl.col(TEXT).str.join("\n"), pl.len().alias(_HEIGHT))
        .select(FILE, LINE, TEXT, pl.col(_HEIGHT).cast(pl.UInt32))
    )
    last = inside.row(-1, named=True)
    open_row = inside.filter(pl.col(_ROW) == last[_ROW])[LINE][0] if last[_INSIDE] else -1
    return pl.concat([single, several]).sort(LINE), open_row
