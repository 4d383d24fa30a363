"""One user a line, the items behind the user's id, oldest first: MicroLens, and files of your own."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from trsr.config.data import MicroLensData, SequenceData
from trsr.data.cleaning import ids_in_text
from trsr.data.dataset import Dataset, Reader
from trsr.data.delimited import read_delimited
from trsr.data.notes import FILE, LINE, Notes, noting
from trsr.data.readers.tables import ITEM_NAMES, SUFFIXES, catalogue_rows, column_for, read_table, table_named
from trsr.data.repair import assemble, explode_lists
from trsr.data.text_files import TEXT, read_lines, require_columns
from trsr.errors import DataError
from trsr.records import ITEM, ITEMS, USER


class MicroLens(Reader):
    """MicroLens."""

    Settings = MicroLensData
    signs = "MicroLens (pairs.tsv, titles.csv)"

    def files(self) -> tuple[Path, ...]:
        """List the two files."""
        return self.settings.path / "titles.csv", self.settings.path / "pairs.tsv"

    @noting
    def read(self, notes: Notes, seed: int) -> Dataset:
        """Read MicroLens; it has no times, the order of the ids is time.

        Raises DataError when a file or column is missing, or nothing is left.
        """
        source: MicroLensData = self.settings
        titles_file, pairs_file = self.files()
        titles = read_delimited(titles_file, ",", notes, encoding=source.encoding)
        require_columns(titles_file, titles, ("item", "title"))
        pairs = read_delimited(
            pairs_file, "\t", notes, columns=(USER, ITEMS), quoted=False, encoding=source.encoding
        )
        events = _events(pairs.with_columns(pl.col(ITEMS).str.extract_all(r"\S+")), notes)
        items = titles.select(FILE, LINE, pl.col("item").alias(ITEM), "title")
        return assemble(items, events, notes, null_words=source.null_words)

    @classmethod
    def detect(cls, folder: Path, names: set[str]) -> MicroLensData | None:
        """Recognise the files; see `Reader`."""
        known = {"pairs.tsv", "titles.csv"} <= names
        return MicroLensData(format="microlens", path=folder) if known else None


def _events(rows: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    again = rows.filter(~pl.col(USER).str.strip_chars().is_first_distinct())
    notes.add("further-row", "further rows of a user are put behind the first", "repaired", again, USER)
    return explode_lists(rows, notes)


_SIGNS: Final = {"tab": "\t", "comma": ",", "space": " "}
_PATTERNS: Final = {"tab": r"\t+", "comma": ",", "space": r"\s+"}
"""What parts fields, in the order in which it is looked for: whoever writes tabs means them."""
_REST: Final = "_rest"
_FILES: Final = tuple(
    f"{stem}{ending}" for stem in ("sequential_data", "sequences") for ending in (".txt", ".tsv", ".csv")
)


class Sequences(Reader):
    """One user a line."""

    Settings = SequenceData
    signs = "sequences (sequences.txt or sequential_data.txt with items.*)"

    def files(self) -> tuple[Path, ...]:
        """List the table of items, then the sequences."""
        return self.settings.items, self.settings.sequences

    @noting
    def read(self, notes: Notes, seed: int) -> Dataset:
        """Read a file with one user a line, and a table of items; the order of the ids is time.

        Raises DataError when a file or column is missing, the lines don't tell what parts their fields, or
        nothing is left.
        """
        source: SequenceData = self.settings
        items = catalogue_rows(source, read_table(source.items, notes, source.encoding), notes)
        lines = read_lines(source.sequences, notes, encoding=source.encoding)
        lines = lines.with_columns(pl.col(TEXT).str.strip_chars()).filter(pl.col(TEXT) != "")
        if lines.is_empty():
            message = f"{source.sequences}: the file is empty; it must hold one user a line, `user item item`"
            raise DataError(message)
        events = _events(_divided(lines, source, notes), notes)
        return assemble(items, events, notes, null_words=source.null_words)

    @classmethod
    def detect(cls, folder: Path, names: set[str]) -> SequenceData | None:
        """Recognise the files; see `Reader`."""
        sequences = next((folder / name for name in _FILES if name in names), None)
        if sequences is None:
            return None
        items = table_named(folder, names, "items")
        if items is None:
            tables = sorted(n for n in names if n.startswith("item") and n.lower().endswith(SUFFIXES))
            if len(tables) != 1:
                message = (
                    f"{sequences}: can't tell the table of items beside it (looked for items.csv "
                    f"and the like); write a configuration with `data.items` and give that file"
                )
                raise DataError(message)
            items = folder / tables[0]
        item_id = column_for(items, ITEM_NAMES, "item_id")
        return SequenceData(format="sequences", items=items, item_id=item_id, sequences=sequences)


def _divided(lines: pl.DataFrame, source: SequenceData, notes: Notes) -> pl.DataFrame:
    """Divide lines into a user and a list of items; lines that are divided otherwise are left out."""
    behind_user = source.user_separator or _first_in(lines[TEXT])
    parted = pl.col(TEXT).str.contains(_PATTERNS[behind_user])
    other = lines.filter(~parted & pl.col(TEXT).str.contains(r"[\s,]"))
    message = f"lines without the {behind_user} that parts user and items in the others are left out"
    notes.add("bad-row", message, "dropped", other, TEXT)
    user = rf"(?s)^(.*?){_PATTERNS[behind_user]}(.*)$"
    rows = lines.filter(parted | ~pl.col(TEXT).str.contains(r"[\s,]")).with_columns(
        pl.coalesce(pl.col(TEXT).str.extract(user, 1), TEXT).alias(USER),
        pl.col(TEXT).str.extract(user, 2).fill_null("").alias(_REST),
    )
    # A list as JSON, Python or a spreadsheet writes it, tells by itself where its ids end.
    rows = rows.with_columns(pl.col(_REST).str.replace(r'^"([^"]*)"$', "${1}"))
    listed = pl.col(_REST).str.starts_with("[")
    between = source.separator or _between_items(rows.filter(~listed), source)
    if source.user_separator is None and behind_user == "comma":
        _refuse_unclear(rows.filter(pl.col(USER).str.contains(r"\s")), source, "user_separator", USER)
    pieces = (
        pl.col(_REST).str.extract_all(r"\S+")
        if between == "space"
        else pl.col(_REST).str.split(_SIGNS[between]).list.eval(pl.element().str.strip_chars())
    )
    filled = pieces.list.eval(pl.element().filter(pl.element() != ""))
    rows = rows.with_columns(filled.alias(ITEMS), (pieces.list.len() - filled.list.len()).alias("_gaps"))
    rows = rows.with_columns(
        pl.when(listed).then(ids_in_text(pl.col(_REST))).otherwise(pl.col(ITEMS)).alias(ITEMS)
    )
    unread = rows.filter(pl.col(ITEMS).is_null())
    notes.add("bad-row", "lines whose list is none of ids are left out", "dropped", unread, TEXT)
    rows = rows.filter(pl.col(ITEMS).is_not_null())
    gaps = rows.filter(~listed & (pl.col("_gaps") > 0) & (pl.col(_REST) != ""))
    notes.add(
        "missing-id",
        "lines with nothing between two separators are read without that",
        "repaired",
        gaps,
        TEXT,
    )
    return rows.select(FILE, LINE, USER, ITEMS)


def _first_in(texts: pl.Series) -> str:
    return next((name for name, sign in _PATTERNS.items() if texts.str.contains(sign).any()), "space")


def _between_items(rows: pl.DataFrame, source: SequenceData) -> str:
    """Tell what parts the items; refused when two signs stand there, as ids may hold one of them."""
    found = _first_in(rows[_REST])
    if found != "space":
        pieces = pl.col(_REST).str.split(_SIGNS[found]).list.eval(pl.element().str.strip_chars())
        _refuse_unclear(
            rows.filter(pieces.list.eval(pl.element().str.contains(r"[\s,]")).list.any()),
            source, "separator", TEXT,
        )  # fmt: skip
    return found


def _refuse_unclear(rows: pl.DataFrame, source: SequenceData, setting: str, shown: str) -> None:
    if rows.height:
        message = (
            f"{source.sequences}:{rows[LINE][0]}: can't tell what parts the fields of "
            f"{rows[TEXT][0][:80]!r}; set data.{setting} to one of {', '.join(_SIGNS)}"
        )
        raise DataError(message)
