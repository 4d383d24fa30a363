"""Amazon's data: Reviews 2023, the KDD Cup 2023 (Amazon-M2), and rolling 5-core rows of 2018."""

from __future__ import annotations

import fnmatch
import json
from pathlib import Path
from typing import Any, Final

import polars as pl

from trsr.config.data import Amazon5CoreData, AmazonM2Data, AmazonReviewsData
from trsr.data.cleaning import empty_as_null, ids_in_text, is_empty, text_of_json, text_of_list
from trsr.data.dataset import Dataset, Reader
from trsr.data.delimited import header_of, read_delimited
from trsr.data.json_lines import first_wins, read_json_lines
from trsr.data.notes import FILE, LINE, Notes, noting
from trsr.data.repair import assemble, explode_lists, rated
from trsr.data.text_files import TEXT, read_lines, require_columns
from trsr.data.times import read_times
from trsr.errors import DataError
from trsr.records import HISTORY, ITEM, ITEMS, PLACE, SPLIT, TIME, USER, Split

_ID: Final = "parent_asin"
_REVIEW_FIELDS: Final = (
    ("title", " "), ("store", " "), ("main_category", " "), ("categories", ", "), ("price", " "),
    ("features", " "), ("description", " "), ("details", "; "),
)  # fmt: skip
"""Text fields in showing order, and what stands between the parts of those that are lists or objects."""


class AmazonReviews(Reader):
    """Amazon Reviews 2023."""

    Settings = AmazonReviewsData
    signs = "Amazon Reviews 2023 (X.jsonl, meta_X.jsonl)"

    def files(self) -> tuple[Path, ...]:
        """List the two files."""
        return self.settings.meta, self.settings.reviews

    @noting
    def read(self, notes: Notes, seed: int) -> Dataset:
        """Read the reviews of one category; a review of at least `min_rating` is an interaction.

        Items are products (``parent_asin``), not their variants. Lists and objects of the
        metadata are written as plain text. Raises DataError when a file is missing or holds
        none of the keys, or nothing is left.
        """
        source: AmazonReviewsData = self.settings
        meta_file, reviews_file = self.files()
        fields = [name for name, _ in _REVIEW_FIELDS]
        meta = read_json_lines(meta_file, notes, [_ID, *fields], encoding=source.encoding)
        _require_key(meta_file, meta, _ID)
        meta = empty_as_null(meta, fields, source.null_words, notes)
        texts = (text_of_json(pl.col(name), between).alias(name) for name, between in _REVIEW_FIELDS)
        items = meta.select(FILE, LINE, pl.col(_ID).alias(ITEM), *texts)
        reviews = read_json_lines(
            reviews_file, notes, ["user_id", _ID, "timestamp", "rating"], encoding=source.encoding
        )
        for key in ("user_id", _ID, "timestamp"):
            _require_key(reviews_file, reviews, key)
        reviews = empty_as_null(reviews, ["timestamp", "rating"], source.null_words, notes)
        reviews = rated(reviews, "rating", source.min_rating, notes)
        times = read_times(
            reviews, "timestamp", notes, remedy="check that it is a file of Amazon Reviews 2023"
        )
        events = reviews.select(
            FILE, LINE, pl.col("user_id").alias(USER), pl.col(_ID).alias(ITEM), times.alias(TIME)
        )
        return assemble(items, events, notes, null_words=source.null_words, seed=seed)

    @classmethod
    def detect(cls, folder: Path, names: set[str]) -> AmazonReviewsData | None:
        """Recognise the files; see `Reader`."""
        for meta in sorted(name for name in names if name.startswith("meta_")):
            stem = meta.removeprefix("meta_").removesuffix(".gz")
            for reviews in (stem, f"{stem}.gz"):
                if stem.endswith(".jsonl") and reviews in names:
                    return AmazonReviewsData(
                        format="amazon_reviews", reviews=folder / reviews, meta=folder / meta
                    )
        return None


def _require_key(path: Path, table: pl.DataFrame, key: str) -> None:
    if table[key].null_count() == table.height:
        message = f"{path}: no line has the key {key!r}; check that the file is one of Amazon Reviews 2023"
        raise DataError(message)


_M2_FIELDS: Final = ("title", "brand", "price", "color", "size", "model", "material", "author", "desc")
_LOCALE: Final = "locale"
_NEXT: Final = "next_item"


class AmazonM2(Reader):
    """Amazon-M2, the KDD Cup 2023."""

    Settings = AmazonM2Data
    signs = "Amazon-M2 (products_*.csv, sessions_*.csv)"

    def files(self) -> tuple[Path, ...]:
        """List the product files, then the session files, each by name; DataError when one kind is absent."""
        found: list[Path] = []
        for pattern in ("products_*.csv", "sessions_*.csv"):
            files = sorted(self.settings.path.glob(pattern))
            if not files:
                message = (
                    f"{self.settings.path}: no file {pattern}; point `path` at the folder of the Amazon-M2 "
                    "files"
                )
                raise DataError(message)
            found += files
        return tuple(found)

    @noting
    def read(self, notes: Notes, seed: int) -> Dataset:
        """Read the products and sessions of one locale; a session is a user, named by its file and line.

        The history is ``prev_items`` followed by ``next_item``. Session files without a
        ``next_item`` (the competition's test sessions) are not used, and noted. Raises DataError
        when a file or column is missing, or the locale has no rows.
        """
        source: AmazonM2Data = self.settings
        files = self.files()
        products = pl.concat(
            [
                _of_locale(p, source, notes, ("id", _LOCALE, *_M2_FIELDS))
                for p in files
                if p.name.startswith("products_")
            ]
        )
        sessions = [_sessions(path, source, notes) for path in files if path.name.startswith("sessions_")]
        rows = pl.concat([table for table in sessions if table is not None] or [_no_sessions()])
        if products.is_empty() or rows.is_empty():
            what = "products" if products.is_empty() else "sessions with a next item"
            message = (
                f"{source.path}: no {what} of locale {source.locale!r}; set `locale` to one that the files "
                "hold"
            )
            raise DataError(message)
        items = products.select(FILE, LINE, pl.col("id").alias(ITEM), *_M2_FIELDS)
        return assemble(items, explode_lists(rows, notes), notes, null_words=source.null_words)

    @classmethod
    def detect(cls, folder: Path, names: set[str]) -> AmazonM2Data | None:
        """Recognise the files; see `Reader`."""
        known = all(fnmatch.filter(names, f"{kind}_*.csv") for kind in ("products", "sessions"))
        return AmazonM2Data(format="amazon_m2", path=folder) if known else None


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


_FIVE_CORE_FIELDS: Final = ("title", "brand", "categories", "description")
_HISTORY_COLUMN: Final = "history_item_id"


class Amazon5Core(Reader):
    """Rolling 5-core rows."""

    Settings = Amazon5CoreData
    signs = "5-core rows (items.json, valid.csv, test.csv)"

    def files(self) -> tuple[Path, ...]:
        """List `items.json` and those row files that are there, oldest first; DataError when none is."""
        source: Amazon5CoreData = self.settings
        rows = [source.path / name for name in source.files if (source.path / name).is_file()]
        if not rows:
            message = (
                f"{source.path}: none of the row files {', '.join(source.files)}; check `path` and `files`"
            )
            raise DataError(message)
        return source.path / "items.json", *rows

    @noting
    def read(self, notes: Notes, seed: int) -> Dataset:
        """Read rolling rows and stitch each user's rows into one history; see `stitched`.

        Raises DataError when a file or column is missing, `items.json` is no JSON object, or nothing is left.
        """
        source: Amazon5CoreData = self.settings
        items_file, *row_files = self.files()
        absent = [name for name in source.files if not (source.path / name).is_file()]
        notes.count("absent-file", f"row files that are not there: {', '.join(absent)}", "noted", len(absent))
        items = _items(items_file, source, notes)
        rows = pl.concat([_rows(path, source, notes) for path in row_files])
        histories = stitched(rows, notes)
        events = explode_lists(histories.select(FILE, LINE, USER, ITEMS), notes)
        return assemble(items, _labelled(events, histories, source), notes, null_words=source.null_words)

    @classmethod
    def detect(cls, folder: Path, names: set[str]) -> Amazon5CoreData | None:
        """Recognise the files; see `Reader`."""
        known = "items.json" in names and {"train.csv", "valid.csv", "test.csv"} & names
        return Amazon5CoreData(format="amazon_5core", path=folder) if known else None


def _labelled(events: pl.DataFrame, histories: pl.DataFrame, source: Amazon5CoreData) -> pl.DataFrame:
    """Say which interactions are targets of the last file, the test's, and of the one before it."""
    parts = dict(zip(reversed(source.files), (Split.TEST.value, Split.VALID.value), strict=False))
    targets = histories.select(USER, PLACES, FILES).explode(PLACES, FILES)
    named = targets.select(
        USER,
        pl.col(PLACES).alias(PLACE),
        pl.col(FILES).replace_strict(parts, default=Split.TRAIN.value, return_dtype=pl.String).alias(SPLIT),
    )
    placed = events.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).over(USER).alias(PLACE))
    return placed.join(named, on=[USER, PLACE], how="left", maintain_order="left").drop(PLACE)


def _rows(path: Path, source: Amazon5CoreData, notes: Notes) -> pl.DataFrame:
    table = read_delimited(path, ",", notes, encoding=source.encoding)
    require_columns(path, table, (USER, _HISTORY_COLUMN, ITEM))
    table = table.with_columns(ids_in_text(pl.col(_HISTORY_COLUMN)).alias(HISTORY))
    missing = is_empty(pl.col(USER), source.null_words) | is_empty(pl.col(ITEM), source.null_words)
    bad = missing | pl.col(HISTORY).is_null()
    shown = pl.concat_str(USER, _HISTORY_COLUMN, ITEM, separator=",")
    notes.add(
        "bad-row",
        "rows without user, item or a list as history are left out",
        "dropped",
        table.filter(bad),
        shown,
    )
    return table.filter(~bad).select(
        FILE, LINE, pl.col(USER).str.strip_chars(), pl.col(ITEM).str.strip_chars(), HISTORY
    )


def _items(path: Path, source: Amazon5CoreData, notes: Notes) -> pl.DataFrame:
    lines = read_lines(path, notes, encoding=source.encoding)
    parsed, repeated = _parsed(lines, path)
    examples = tuple(f"{path.name}:1: {name[:80]!r}" for name in repeated[:5])
    message = "keys that an object repeats are read once, the first"
    notes.count("duplicate-item", message, "dropped", len(repeated), examples)
    places = _places(lines, [_storable(name) for name in parsed], path)
    objects = [_storable(json.dumps(value, ensure_ascii=False)) for value in parsed.values()]
    rows = places.with_columns(pl.Series(TEXT, objects, dtype=pl.String))
    readable = pl.col(TEXT).str.json_path_match("$").str.starts_with("{").fill_null(False)
    message = "items whose entry is no object of plain fields keep their id only"
    notes.add("bad-row", message, "repaired", rows.filter(~readable), TEXT)
    rows = rows.with_columns(
        pl.col(TEXT).str.json_path_match(f"$.{name}").alias(name) for name in _FIVE_CORE_FIELDS
    )
    rows = empty_as_null(rows, _FIVE_CORE_FIELDS, source.null_words, notes)
    return rows.select(FILE, LINE, ITEM, *(text_of_list(pl.col(name)) for name in _FIVE_CORE_FIELDS))


def _parsed(lines: pl.DataFrame, path: Path) -> tuple[dict[str, Any], list[str]]:
    """Parse the item file; of keys that an object repeats the first counts, and their names are given too."""
    repeated: list[str] = []

    try:
        parsed = json.loads(
            lines[TEXT].str.join("\n").item() or "",
            object_pairs_hook=lambda pairs: first_wins(pairs, repeated),
        )
    except (ValueError, RecursionError) as error:
        message = f"{path}: is not valid JSON ({error}); it must be one object, item id to its fields"
        raise DataError(message) from error
    if not isinstance(parsed, dict) or not parsed:
        message = f"{path}: must be one JSON object, item id to its fields, and not empty"
        raise DataError(message)
    return parsed, repeated


def _storable(text: str) -> str:
    """Replace halves of surrogate pairs, which JSON can write but no UTF-8 text can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _places(lines: pl.DataFrame, ids: list[str], path: Path) -> pl.DataFrame:
    """Find the line of every item in a file with one key a line; 1 where it can't be told."""
    keys = lines.select(LINE, pl.col(TEXT).str.extract(r'^\s*"((?:[^"\\]|\\.)*)"\s*:\s*\{', 1).alias(ITEM))
    firsts = keys.filter(pl.col(ITEM).is_not_null()).unique(ITEM, keep="first", maintain_order=True)
    named = pl.DataFrame({ITEM: ids}, schema={ITEM: pl.String}).join(
        firsts, on=ITEM, how="left", maintain_order="left"
    )
    return named.select(pl.lit(path.name).alias(FILE), pl.col(LINE).fill_null(1), ITEM)


_SEQUENCE: Final = "_sequence"
_NEW: Final = "_new"
_CHAIN: Final = "_chain"
_BEFORE: Final = "_before"
PLACES: Final = "_places"
"""Column of stitched rows: where the rows' targets stand among the items."""
FILES: Final = "_files"
"""Column of stitched rows: the file of each of these rows."""


def stitched(rows: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    """Stitch rows to one sequence a user.

    Takes `FILE`, `LINE`, ``user_id``, ``history`` (List of String) and ``item_id``, a user's rows from
    oldest to newest. Gives one row a user, in order of first rows: `FILE` and `LINE` of the first row of
    its chain, ``user_id`` and ``item_ids``; `PLACES` in them of the rows' targets, and the `FILES` of
    these rows. Notes take repeated rows, and users whose rows don't all
    join: of these the longest chain of rows is kept (of equal ones the newest).

    Examples
    --------
    >>> rows = pl.DataFrame({
    ...     FILE: "a.csv", LINE: [2, 3], USER: "u", HISTORY: [["1", "2"], ["1", "2", "3"]], ITEM: ["3", "4"],
    ... })
    >>> stitched(rows, Notes())[ITEMS].to_list()
    [['1', '2', '3', '4']]
    """
    rows = _first_of_repeats(rows, notes)
    joined = _with_new_items(rows)
    parts = (
        joined.with_columns(pl.col(_NEW).is_null().cum_sum().over(USER).alias(_CHAIN))
        .with_columns(pl.coalesce(_NEW, _SEQUENCE).alias(ITEMS))
        .group_by(USER, _CHAIN, maintain_order=True)
        .agg(
            pl.col(FILE).alias(FILES),
            (pl.col(ITEMS).list.len().cast(pl.Int64).cum_sum() - 1).alias(PLACES),
            pl.col(FILE).first(),
            pl.col(LINE).first(),
            pl.col(ITEMS).explode(),
            pl.len().alias("_rows"),
        )
    )
    longest = (
        parts.with_row_index("_order")
        .with_columns(pl.col("_order").min().over(USER))
        .sort("_order", pl.col(ITEMS).list.len(), _CHAIN, descending=[False, True, True])
        .unique(USER, keep="first", maintain_order=True)
    )
    left = parts.join(longest.select(USER, _CHAIN), on=[USER, _CHAIN], how="anti", maintain_order="left")
    users = left.unique(USER, maintain_order=True)
    message = "users whose rows don't all join keep their longest chain of rows"
    notes.add("rows-do-not-join", message, "repaired", users, USER)
    notes.count(
        "row-left-out",
        "rows outside their user's longest chain are left out",
        "dropped",
        int(left["_rows"].sum()),
    )
    return longest.select(FILE, LINE, USER, ITEMS, PLACES, FILES)


def _first_of_repeats(rows: pl.DataFrame, notes: Notes) -> pl.DataFrame:
    again = ~pl.struct(USER, pl.col(HISTORY).list.join("\0", ignore_nulls=True), ITEM).is_first_distinct()
    repeats = rows.filter(again)
    notes.add("duplicate-row", "rows that repeat an earlier row are left out", "dropped", repeats, USER)
    return rows.filter(~again)


def _with_new_items(rows: pl.DataFrame) -> pl.DataFrame:
    """Add each row's whole sequence, and what it adds to the row before; null where it doesn't join."""
    rows = rows.with_columns(pl.concat_list(HISTORY, ITEM).alias(_SEQUENCE))
    rows = rows.with_columns(pl.col(_SEQUENCE).shift(1).over(USER).alias(_BEFORE))
    longest = int(rows[HISTORY].list.len().max() or 0)  # type: ignore[arg-type]
    return rows.with_columns(_new_items(longest)).drop(_BEFORE)


def _new_items(longest: int) -> pl.Expr:
    """Take the smallest gap (rows absent between two) for which start and end agree.

    A history shorter than the longest one was not cut: it must hold all of the
    sequence before it. One that was cut may have lost the start of it.
    """
    history, before = pl.col(HISTORY), pl.col(_BEFORE)
    size = history.list.len().cast(pl.Int64)
    found = pl.lit(None, dtype=pl.List(pl.String))
    for gap in range(longest - 1, -1, -1):
        overlap = size - gap
        whole = (overlap == before.list.len()) | ((size == longest) & (overlap < before.list.len()))
        agrees = history.list.head(overlap) == before.list.tail(overlap)
        joins = (overlap >= 1) & whole & agrees
        found = pl.when(joins).then(pl.concat_list(history.list.tail(gap), ITEM)).otherwise(found)
    return found.alias(_NEW)
