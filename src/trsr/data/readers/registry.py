"""Every format of data: read by its settings, or found out from the files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final, assert_never

from trsr.config.data import (
    Amazon5CoreData,
    AmazonM2Data,
    AmazonReviewsData,
    DataSource,
    DemoData,
    MicroLensData,
    MindData,
    TableData,
)
from trsr.config.load import load
from trsr.data.dataset import Dataset, checked
from trsr.data.readers.amazon_5core import amazon_5core_files, read_amazon_5core
from trsr.data.readers.amazon_m2 import amazon_m2_files, read_amazon_m2
from trsr.data.readers.amazon_reviews import amazon_reviews_files, read_amazon_reviews
from trsr.data.readers.demo import generate
from trsr.data.readers.microlens import microlens_files, read_microlens
from trsr.data.readers.mind import mind_files, read_mind
from trsr.data.readers.tables import SUFFIXES, column_names, read_tables, table_files
from trsr.data.text_files import require_files
from trsr.errors import DataError
from trsr.records import Finding


def read(source: DataSource, seed: int = 0) -> tuple[Dataset, tuple[Finding, ...]]:
    """Read, repair and check a data source; the findings are all that was noticed, repaired or left out.

    Events of one time are drawn by the seed where the files have no order of time. Raises DataError
    when a file or column is missing, a file can't be read, or nothing is left.
    """
    input_files(source)
    match source:
        case DemoData():
            return checked(generate(source)), ()
        case MindData():
            return read_mind(source)
        case AmazonM2Data():
            return read_amazon_m2(source)
        case AmazonReviewsData():
            return read_amazon_reviews(source, seed)
        case Amazon5CoreData():
            return read_amazon_5core(source)
        case MicroLensData():
            return read_microlens(source)
        case TableData():
            return read_tables(source, seed)
        case other:
            assert_never(other)


def input_files(source: DataSource) -> tuple[Path, ...]:
    """List the files that a source is read from, in a fixed order; none for generated data.

    Raises DataError when a file that the format needs does not exist.
    """
    match source:
        case DemoData():
            return ()
        case MindData():
            return require_files(mind_files(source))
        case AmazonM2Data():
            return require_files(amazon_m2_files(source))
        case AmazonReviewsData():
            return require_files(amazon_reviews_files(source))
        case Amazon5CoreData():
            return require_files(amazon_5core_files(source))
        case MicroLensData():
            return require_files(microlens_files(source))
        case TableData():
            return require_files(table_files(source))
        case other:
            assert_never(other)


_ITEM_NAMES: Final = (
    "item_id",
    "id",
    "item",
    "itemid",
    "product_id",
    "asin",
    "parent_asin",
    "news_id",
    "movie_id",
    "sku",
)
_USER_NAMES: Final = ("user_id", "user", "userid", "uid", "customer_id", "session_id", "visitor_id")
_TIME_NAMES: Final = ("time", "timestamp", "ts", "datetime", "date", "event_time", "created_at")
_LIST_NAMES: Final = ("item_ids", "items", "history", "sequence", "item_list")


def detect(path: Path) -> DataSource:
    """Recognise the format of a folder, of the folder of a file, or the `data` section of a YAML file.

    Raises DataError when there is nothing, or nothing that is known, and ConfigError when the YAML
    file is no valid configuration.
    """
    if path.suffix.lower() in (".yaml", ".yml"):
        return load(path).data
    if not path.exists():
        message = f"{path}: no such file or folder; give a folder of data, or a configuration (.yaml)"
        raise DataError(message)
    is_table = path.is_file() or path.name.lower().endswith(SUFFIXES)
    folder = path.parent if is_table else path
    entries = list(folder.iterdir())
    names = {entry.name for entry in entries if entry.is_file()}
    tables = {entry.name for entry in entries}
    source = _known_format(folder, names) or _reviews(folder, names) or _own_tables(folder, tables)
    if source is None:
        there = ", ".join(sorted(names)[:12]) or "no files"
        message = (
            f"{folder}: no known data format here (found {there}). Known are MIND (news.tsv, "
            "behaviors.tsv), Amazon-M2 (products_*.csv, sessions_*.csv), Amazon Reviews 2023 (X.jsonl, "
            "meta_X.jsonl), 5-core rows (items.json, valid.csv, test.csv), MicroLens (pairs.tsv, "
            "titles.csv) and own tables (items.* with events.* or histories.*). For other names write a "
            "configuration with a `data` section and give that file"
        )
        raise DataError(message)
    return source


def _known_format(folder: Path, names: set[str]) -> DataSource | None:
    if {"news.tsv", "behaviors.tsv"} <= names:
        return MindData(format="mind", path=folder)
    if {"pairs.tsv", "titles.csv"} <= names:
        return MicroLensData(format="microlens", path=folder)
    if "items.json" in names and {"train.csv", "valid.csv", "test.csv"} & names:
        return Amazon5CoreData(format="amazon_5core", path=folder)
    if any(folder.glob("products_*.csv")) and any(folder.glob("sessions_*.csv")):
        return AmazonM2Data(format="amazon_m2", path=folder)
    return None


def _reviews(folder: Path, names: set[str]) -> DataSource | None:
    for meta in sorted(name for name in names if name.startswith("meta_")):
        stem = meta.removeprefix("meta_").removesuffix(".gz")
        for reviews in (stem, f"{stem}.gz"):
            if stem.endswith(".jsonl") and reviews in names:
                return AmazonReviewsData(
                    format="amazon_reviews", reviews=folder / reviews, meta=folder / meta
                )
    return None


def _own_tables(folder: Path, names: set[str]) -> DataSource | None:
    items, events, histories = (_table(folder, names, stem) for stem in ("items", "events", "histories"))
    if items is None or (events is None and histories is None):
        return None
    settings: dict[str, object] = {"items": items, "item_id": _column(items, _ITEM_NAMES, "item_id")}
    if events is not None:
        times = _matching(column_names(events), _TIME_NAMES)
        settings |= {
            "events": events,
            "user_column": _column(events, _USER_NAMES, "user_column"),
            "item_column": _column(events, _ITEM_NAMES, "item_column"),
            "time_column": times,
        }
    elif histories is not None:
        settings |= {
            "histories": histories,
            "user_column": _column(histories, _USER_NAMES, "user_column"),
            "history_column": _column(histories, _LIST_NAMES, "history_column"),
        }
    return TableData.model_validate({"format": "tables", **settings})


def _table(folder: Path, names: set[str], stem: str) -> Path | None:
    for suffix in SUFFIXES:
        for name in (f"{stem}{suffix}", f"{stem}{suffix}.gz"):
            if name in names:
                return folder / name
    return folder / stem if (folder / stem).is_dir() else None


def _column(path: Path, known: Iterable[str], setting: str) -> str:
    columns = column_names(path)
    found = _matching(columns, known)
    if found is None:
        message = (
            f"{path}: can't tell which column is `{setting}` (looked for {', '.join(known)}); "
            f"the columns are "
            f"{', '.join(columns) or 'none'}. Write a configuration with `data.{setting}` and give that file"
        )
        raise DataError(message)
    return found


def _matching(columns: Iterable[str], known: Iterable[str]) -> str | None:
    by_lower = {column.lower(): column for column in reversed(list(columns))}
    return next((by_lower[name] for name in known if name in by_lower), None)
