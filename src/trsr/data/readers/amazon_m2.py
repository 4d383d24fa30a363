"""Amazon-M2 (KDD Cup 2023): `products_*.csv` and `sessions_*.csv`, several locales in one file."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Final

import polars as pl

from trsr.config.data import AmazonM2Data
from trsr.data.dataset import Dataset, Reader
from trsr.data.delimited import header_of, read_delimited
from trsr.data.lists import ids_in_text
from trsr.data.notes import FILE, LINE, Notes, noting
from trsr.data.repair import assemble, explode_lists
from trsr.data.text_files import require_columns
from trsr.errors import DataError
from trsr.records import ITEM, ITEMS, USER, Finding

_FIELDS: Final = ("title", "brand", "price", "color", "size", "model", "material", "author", "desc")
_LOCALE: Final = "locale"
_NEXT: Final = "next_item"


def amazon_m2_files(source: AmazonM2Data) -> tuple[Path, ...]:
    """List the product files, then the session files, each by name; DataError when one kind is absent."""
    found: list[Path] = []
    for pattern in ("products_*.csv", "sessions_*.csv"):
        files = sorted(source.path.glob(pattern))
        if not files:
            message = f"{source.path}: no file {pattern}; point `path` at the folder of the Amazon-M2 files"
            raise DataError(message)
        found += files
    return tuple(found)


@noting
def read_amazon_m2(source: AmazonM2Data, notes: Notes) -> Dataset:
    """Read the products and sessions of one locale; a session is a user, named by its file and line.

    The history is ``prev_items`` followed by ``next_item``. Session files without a
    ``next_item`` (the competition's test sessions) are not used, and noted. Raises DataError
    when a file or column is missing, or the locale has no rows.
    """
    files = amazon_m2_files(source)
    products = pl.concat(
        [
            _of_locale(p, source, notes, ("id", _LOCALE, *_FIELDS))
            for p in files
            if p.name.startswith("products_")
        ]
    )
    sessions = [_sessions(path, source, notes) for path in files if path.name.startswith("sessions_")]
    rows = pl.concat([table for table in sessions if table is not None] or [_no_sessions()])
    if products.is_empty() or rows.is_empty():
        what = "products" if products.is_empty() else "sessions with a next item"
        message = (
            f"{source.path}: no {what} of locale {source.locale!r}; set `locale` to one that the files hold"
        )
        raise DataError(message)
    items = products.select(FILE, LINE, pl.col("id").alias(ITEM), *_FIELDS)
    return assemble(items, explode_lists(rows, notes), notes, null_words=source.null_words)


def _of_locale(path: Path, source: AmazonM2Data, notes: Notes, columns: tuple[str, ...]) -> pl.DataFrame:
    table = read_delimited(path, ",", notes, encoding=source.encoding)
    require_columns(path, table, columns)
    other = table.height
    table = table.filter(pl.col(_LOCALE) == source.locale).select(FILE, LINE, *columns)
    notes.count(
        "other-locale",
        f"rows of other locales than {source.locale} are not used",
        "noted",
        other - table.height,
    )
    return table


def _sessions(path: Path, source: AmazonM2Data, notes: Notes) -> pl.DataFrame | None:
    if _NEXT not in header_of(path, ",", source.encoding):
        notes.count(
            "no-next-item", "session files without next_item are not used", "noted", 1, (f"{path.name}:1: ",)
        )
        return None
    table = _of_locale(path, source, notes, ("prev_items", _NEXT, _LOCALE))
    table = table.with_columns(ids_in_text(pl.col("prev_items")).alias("_previous"))
    unread = table.filter(pl.col("_previous").is_null())
    notes.add(
        "bad-row", "rows whose prev_items is no list of ids are left out", "dropped", unread, "prev_items"
    )
    read = table.filter(pl.col("_previous").is_not_null())
    user = pl.format("{}:{}", pl.lit(path.stem), LINE)
    return read.select(
        FILE, LINE, user.alias(USER), pl.col("_previous").list.concat(pl.col(_NEXT)).alias(ITEMS)
    )


def _no_sessions() -> pl.DataFrame:
    return pl.DataFrame(schema={FILE: pl.String, LINE: pl.Int64, USER: pl.String, ITEMS: pl.List(pl.String)})


class AmazonM2(Reader):
    """Amazon-M2; see `read_amazon_m2`."""

    Settings = AmazonM2Data
    signs = "Amazon-M2 (products_*.csv, sessions_*.csv)"

    def files(self) -> tuple[Path, ...]:
        """List the files; see `amazon_m2_files`."""
        return amazon_m2_files(self.settings)

    def read(self, seed: int) -> tuple[Dataset, tuple[Finding, ...]]:
        """Read them; see `read_amazon_m2`."""
        return read_amazon_m2(self.settings)

    @classmethod
    def detect(cls, folder: Path, names: set[str]) -> AmazonM2Data | None:
        """Recognise the files; see `Reader`."""
        known = all(fnmatch.filter(names, f"{kind}_*.csv") for kind in ("products", "sessions"))
        return AmazonM2Data(format="amazon_m2", path=folder) if known else None
