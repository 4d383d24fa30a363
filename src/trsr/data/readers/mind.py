"""MIND (Microsoft News): `news.tsv` and `behaviors.tsv`, by tab, no header, quotes without meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from trsr.config.data import MindData
from trsr.data.dataset import Dataset, Reader
from trsr.data.delimited import read_delimited
from trsr.data.notes import FILE, LINE, Notes, noting
from trsr.data.repair import assemble, explode_lists
from trsr.data.times import read_times
from trsr.records import ITEM, ITEMS, TIME, USER, Finding

_NEWS: Final = (
    ITEM,
    "category",
    "subcategory",
    "title",
    "abstract",
    "url",
    "title_entities",
    "abstract_entities",
)
_BEHAVIORS: Final = ("impression", USER, TIME, "history", "impressions")
_TIME_FORMAT: Final = "%m/%d/%Y %I:%M:%S %p"


def mind_files(source: MindData) -> tuple[Path, ...]:
    """List the two files."""
    return source.path / "news.tsv", source.path / "behaviors.tsv"


@noting
def read_mind(source: MindData, notes: Notes) -> Dataset:
    """Read MIND, one behaviour row a user.

    A user's history is the history of one row, followed by the news of that row's
    impressions which were clicked (``-1``), in the order in which they are listed.
    The row is the one with the longest history; of several, the latest; of several
    still, the last in the file. MIND keeps a user's history fixed within a file, so
    the clicks of the user's other rows belong to no sequence and are left out.

    Clicks of the history have no time of their own. All of a row's interactions get
    the time of the row: they happened then or before.

    Raises DataError when a file is missing or nothing is left.
    """
    news_file, behaviors_file = mind_files(source)
    news = read_delimited(news_file, "\t", notes, columns=_NEWS, quoted=False, encoding=source.encoding)
    rows = read_delimited(
        behaviors_file, "\t", notes, columns=_BEHAVIORS, quoted=False, encoding=source.encoding
    )
    shown = pl.col("impressions")
    odd = rows.filter(
        pl.col("impressions").str.contains(r"(?:^|\s)\S*[^\s]-[^01\s]\S*|(?:^|\s)[^\s-]+(?:\s|$)")
    )
    notes.add(
        "unlabelled-impression",
        "impressions without a label 0 or 1 count as not clicked",
        "noted",
        odd,
        shown,
    )
    events = explode_lists(_one_row_a_user(rows, notes), notes)
    items = news.select(FILE, LINE, ITEM, "category", "subcategory", "title", "abstract")
    return assemble(items, events, notes, null_words=source.null_words, listed=True)


def _one_row_a_user(rows: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    past = pl.col("history").str.extract_all(r"\S+")
    clicked = (
        pl.col("impressions")
        .str.extract_all(r"\S+-1(?:\s|$)")
        .list.eval(pl.element().str.strip_chars().str.strip_suffix("-1"))
    )
    remedy = "times of MIND look like 11/12/2019 2:14:46 PM"
    times = read_times(rows, TIME, notes, form=_TIME_FORMAT, remedy=remedy)
    rows = rows.with_columns(past.alias("_past"), times.alias("_moment"))
    ranked = rows.sort(pl.col("_past").list.len(), "_moment", LINE, descending=True, nulls_last=True)
    chosen = ranked.unique(USER, keep="first", maintain_order=True).sort(LINE)
    other = rows.height - chosen.height
    notes.count(
        "further-row", "further rows of a user are not used: one behaviour row a user", "noted", other
    )
    return chosen.select(
        FILE, LINE, USER, pl.col("_past").list.concat(clicked).alias(ITEMS), pl.col("_moment").alias(TIME)
    )


class Mind(Reader):
    """MIND; see `read_mind`."""

    Settings = MindData
    signs = "MIND (news.tsv, behaviors.tsv)"

    def files(self) -> tuple[Path, ...]:
        """List the files; see `mind_files`."""
        return mind_files(self.settings)

    def read(self, seed: int) -> tuple[Dataset, tuple[Finding, ...]]:
        """Read them; see `read_mind`."""
        return read_mind(self.settings)

    @classmethod
    def detect(cls, folder: Path, names: set[str]) -> MindData | None:
        """Recognise the files; see `Reader`."""
        known = {"news.tsv", "behaviors.tsv"} <= names
        return MindData(format="mind", path=folder) if known else None
