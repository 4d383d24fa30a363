"""CSV and TSV files as columns of text, with the line on which every row starts.

Quotes follow the usual rule: a quote opens a quoted field only where a field
starts, two quotes inside stand for one, and a quoted field may hold separators
and line ends. Which lines start a row is worked out for all lines at once: a
line is a map from "am I inside quotes before it" to the same after it, and such
maps compose to a running parity since the last line that settles the matter.

Files of Spark, Hadoop and MySQL put a backslash before a quote instead of doubling it. A file
is read that way when more of its rows come out whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import polars as pl

from trsr.data.notes import FILE, LINE, Notes
from trsr.data.text_files import TEXT, line_blocks, read_lines, refuse_reserved
from trsr.errors import DataError

UNNAMED: Final = "Unnamed: "
"""What columns without a name are called, before their place."""
_FIELDS: Final = "_fields"
_HEIGHT: Final = "_height"
_FROM_OUT: Final = "_from_out"
_FROM_IN: Final = "_from_in"
_INSIDE: Final = "_inside"
_ROW: Final = "_row"
_RESYNC_LIMIT: Final = 25
_TORN: Final = "_torn"
_SEPARATORS: Final = (",", ";", "\t", "|")
_IN_PATTERNS: Final = {"\t": r"\t", "|": r"\|"}
_TRIED_ROWS: Final = 100
_TRIED_LINES: Final = 5000
# Stand for an escaped quote and backslash while a row is split; Unicode sets them aside as no text.
_QUOTE: Final = "\ufdd0"
_BACKSLASH: Final = "\ufdd1"


def read_delimited(
    path: Path,
    separator: str,
    notes: Notes,
    *,
    columns: Sequence[str] | None = None,
    quoted: bool = True,
    encoding: str | None = None,
    number_repeats: bool = False,
) -> pl.DataFrame:
    """Read a delimited file, gzipped or not, as `FILE`, `LINE` and one String column per column of the file.

    Rows with a wrong number of fields are left out and noted. Raises DataError when the file
    can't be read, is empty, or its header repeats a name.

    The separator is one character; several where quotes have no meaning (not `quoted`). A header without it
    that holds another of the usual ones, as often as the rows do, is read by that, and noted. A file without
    header has the names `columns`. With `number_repeats` a name that the header repeats is no error: the
    second is called ``name.1``, as pandas does. For `encoding` see `trsr.data.text_files.line_blocks`.
    """
    lines = read_lines(path, notes, encoding=encoding)
    if not lines.select((pl.col(TEXT).str.strip_chars() != "").any()).item():
        message = f"{path}: the file is empty; it must hold {'rows' if columns else 'a header and rows'}"
        raise DataError(message)
    if columns is None:
        separator = _found_separator(lines, separator, notes)
    if quoted and lines.select(pl.col(TEXT).str.contains('"', literal=True).any()).item():
        rows = _either_quoted(lines, separator, len(columns) if columns else None, notes)
    else:
        rows = _plain_fields(lines.filter(pl.col(TEXT) != ""), separator)
    if columns is None:
        columns = _header(rows, path, number_repeats)
        rows = rows.slice(1)
    width = len(columns)
    wrong = rows.filter(pl.col(_FIELDS).list.len() != width)
    message = f"rows with a wrong number of fields (not {width}) are left out"
    notes.add("bad-row", message, "dropped", wrong, TEXT)
    rows = rows.filter(pl.col(_FIELDS).list.len() == width)
    return rows.select(
        FILE, LINE, *(pl.col(_FIELDS).list.get(place).alias(name) for place, name in enumerate(columns))
    )


def header_of(path: Path, separator: str, encoding: str | None = None) -> list[str]:
    """Read the column names of a delimited file with a header; none when it is empty.

    Raises DataError when the file can't be read, or its header repeats a name.
    """
    for lines in line_blocks(path, Notes(), 1 << 16, encoding=encoding):
        first = lines.filter(pl.col(TEXT).str.strip_chars() != "").head(1)
        separator = _found_separator(lines, separator, Notes())
        return (
            _header(_split_rows(first.with_columns(pl.lit(1).alias(_HEIGHT)), separator), path)
            if first.height
            else []
        )
    return []


def _header(rows: pl.DataFrame, path: Path, number_repeats: bool = False) -> list[str]:
    """Give the names of the columns; one without a name is called by its place, as pandas does."""
    stripped = [name.strip() for name in rows[_FIELDS][0]]
    names = [name or f"{UNNAMED}{place}" for place, name in enumerate(stripped)]
    if number_repeats:
        before = (names[:place].count(name) for place, name in enumerate(names))
        names = [f"{name}.{count}" if count else name for name, count in zip(names, before, strict=True)]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        message = f"{path}: column names must differ, got {', '.join(map(repr, repeated))} more than once"
        raise DataError(message)
    refuse_reserved(path, names)
    return names


def _found_separator(lines: pl.DataFrame, separator: str, notes: Notes) -> str:
    """Give the separator, or the one that a header without it is divided by, if the rows agree."""
    rows = lines.filter(pl.col(TEXT).str.strip_chars() != "").head(_TRIED_ROWS)
    if rows.is_empty() or separator in rows[TEXT][0]:
        return separator
    rows = rows.with_columns(pl.lit(1).alias(_HEIGHT))
    for other in _SEPARATORS:
        widths = _split_rows(rows, other)[_FIELDS].list.len()
        if widths[0] > 1 and (widths == widths[0]).sum() * 2 > len(widths):
            message = (
                f"columns are parted by {other!r}, not {separator!r} as the file's ending says, and read so"
            )
            notes.add("separator", message, "noted", rows.head(1), TEXT)
            return other
    return separator


def _plain_fields(rows: pl.DataFrame, separator: str) -> pl.DataFrame:
    return rows.with_columns(pl.col(TEXT).str.split(separator).alias(_FIELDS), pl.lit(False).alias(_TORN))


def _quoted_fields(rows: pl.DataFrame, separator: str) -> pl.DataFrame:
    """Split rows at separators outside quotes, take those off, and mark rows with text behind one."""
    s = _IN_PATTERNS.get(separator, separator)
    # Every match starts with a separator (one is put before the row), as an empty match would end the search.
    field = rf'{s}(?:"(?:[^"]|"")*"(?:[^"{s}][^{s}]*)?|[^{s}]*)'
    found = pl.concat_str(pl.lit(separator), pl.col(TEXT)).str.extract_all(field)
    bare = pl.element().str.slice(1)
    torn = bare.str.starts_with('"') & ~bare.str.contains(r'(?s)^"(?:[^"]|"")*"$')
    unquoted = bare.str.replace(r'(?s)^"((?:[^"]|"")*)"', "${1}").str.replace_all('""', '"', literal=True)
    taken_off = pl.when(bare.str.starts_with('"')).then(unquoted).otherwise(bare)
    return rows.with_columns(
        found.list.eval(taken_off).alias(_FIELDS), found.list.eval(torn).list.any().alias(_TORN)
    )


def _split_rows(rows: pl.DataFrame, separator: str) -> pl.DataFrame:
    has_quote = pl.col(TEXT).str.contains('"', literal=True)
    plain = _plain_fields(rows.filter(~has_quote), separator)
    return pl.concat([plain, _quoted_fields(rows.filter(has_quote), separator)]).sort(LINE)


def _either_quoted(lines: pl.DataFrame, separator: str, width: int | None, notes: Notes) -> pl.DataFrame:
    """Read quotes as doubled, or as escaped by a backslash where that leaves more rows whole."""
    escaped = lines[TEXT].str.contains('\\"', literal=True)
    first = escaped.arg_max() if escaped.any() else None
    gain = -1 if first is None else _gain_by_backslash(lines.head(first + _TRIED_LINES), separator, width)
    if gain <= 0:
        rows = _quoted_rows(lines, separator, width, notes)
    else:
        rows = _quoted_rows(_escapes_hidden(lines), separator, width, notes)
        back = pl.col(TEXT).str.replace_all(_BACKSLASH, "\\\\", literal=True)
        rows = rows.with_columns(back.str.replace_all(_QUOTE, '\\"', literal=True), _fields_shown())
    if gain > 0:
        message = "quotes that are escaped by a backslash, not doubled, are read so"
        notes.add("backslash-escape", message, "repaired", lines.filter(escaped), TEXT)
    elif gain == 0:
        message = "quotes behind a backslash may be escaped or not, both fit; they are read as not"
        notes.add("backslash-escape", message, "noted", lines.filter(escaped), TEXT)
    message = (
        "fields with text behind their closing quote are read without the quotes; look whether they are right"
    )
    notes.add("odd-quote", message, "noted", rows.filter(pl.col(_TORN)), TEXT)
    return rows


def _gain_by_backslash(lines: pl.DataFrame, separator: str, width: int | None) -> int:
    """Say how many more lines are whole when a backslash escapes a quote."""
    doubled, escaped = (
        _quoted_rows(sample, separator, width, Notes()) for sample in (lines, _escapes_hidden(lines))
    )
    return _whole(escaped, width) - _whole(doubled, width)


def _escapes_hidden(lines: pl.DataFrame) -> pl.DataFrame:
    """Put signs for escaped backslashes, then for escaped quotes: two backslashes and a quote end a field."""
    text = pl.col(TEXT).str.replace_all("\\\\", _BACKSLASH, literal=True)
    return lines.with_columns(text.str.replace_all('\\"', _QUOTE, literal=True))


def _fields_shown() -> pl.Expr:
    """Write the signs as characters; a backslash was escaped only before a quote."""
    quotes = pl.element().str.replace_all(f"{_BACKSLASH}({_QUOTE}|$)", "\\${1}")
    shown = quotes.str.replace_all(_QUOTE, '"', literal=True).str.replace_all(
        _BACKSLASH, "\\\\", literal=True
    )
    return pl.col(_FIELDS).list.eval(shown)


def _whole(rows: pl.DataFrame, width: int | None) -> int:
    """Count the lines in rows of the right number of fields, with quotes that end fields."""
    expected = width or len(rows[_FIELDS][0])
    whole = (pl.col(_FIELDS).list.len() == expected) & ~pl.col(_TORN)
    return int(rows.filter(whole)[_HEIGHT].sum())


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
    s = _IN_PATTERNS.get(separator, separator)
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
