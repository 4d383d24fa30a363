"""MicroLens: `pairs.tsv` (user, tab, item ids by space, oldest first) and `titles.csv` (item, title)."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from trsr.config.data import MicroLensData
from trsr.data.dataset import Dataset, Reader
from trsr.data.delimited import read_delimited
from trsr.data.notes import FILE, LINE, Notes, noting
from trsr.data.repair import assemble, explode_lists
from trsr.data.text_files import require_columns
from trsr.records import ITEM, ITEMS, USER, Finding


def microlens_files(source: MicroLensData) -> tuple[Path, ...]:
    """List the two files."""
    return source.path / "titles.csv", source.path / "pairs.tsv"


@noting
def read_microlens(source: MicroLensData, notes: Notes) -> Dataset:
    """Read MicroLens; it has no times, the order of the ids is time.

    Raises DataError when a file or column is missing, or nothing is left.
    """
    titles_file, pairs_file = microlens_files(source)
    titles = read_delimited(titles_file, ",", notes, encoding=source.encoding)
    require_columns(titles_file, titles, ("item", "title"))
    pairs = read_delimited(
        pairs_file, "\t", notes, columns=(USER, ITEMS), quoted=False, encoding=source.encoding
    )
    again = pairs.filter(~pl.col(USER).str.strip_chars().is_first_distinct())
    notes.add("further-row", "further rows of a user are put behind the first", "repaired", again, USER)
    events = explode_lists(pairs.with_columns(pl.col(ITEMS).str.extract_all(r"\S+")), notes)
    items = titles.select(FILE, LINE, pl.col("item").alias(ITEM), "title")
    return assemble(items, events, notes, null_words=source.null_words)


class MicroLens(Reader):
    """MicroLens; see `read_microlens`."""

    Settings = MicroLensData
    signs = "MicroLens (pairs.tsv, titles.csv)"

    def files(self) -> tuple[Path, ...]:
        """List the files; see `microlens_files`."""
        return microlens_files(self.settings)

    def read(self, seed: int) -> tuple[Dataset, tuple[Finding, ...]]:
        """Read them; see `read_microlens`."""
        return read_microlens(self.settings)

    @classmethod
    def detect(cls, folder: Path, names: set[str]) -> MicroLensData | None:
        """Recognise the files; see `Reader`."""
        known = {"pairs.tsv", "titles.csv"} <= names
        return MicroLensData(format="microlens", path=folder) if known else None
