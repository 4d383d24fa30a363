"""Amazon Reviews 2023: reviews and item metadata of one category as JSON lines, gzipped or not."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from trsr.config.data import AmazonReviewsData
from trsr.data.cleaning import empty_as_null
from trsr.data.dataset import Dataset, Reader
from trsr.data.json_lines import read_json_lines
from trsr.data.lists import text_of_json
from trsr.data.notes import FILE, LINE, Notes, noting
from trsr.data.repair import assemble
from trsr.data.times import read_times
from trsr.errors import DataError
from trsr.records import ITEM, TIME, USER, Finding

_ID: Final = "parent_asin"
_FIELDS: Final = (
    ("title", " "), ("store", " "), ("main_category", " "), ("categories", ", "), ("price", " "),
    ("features", " "), ("description", " "), ("details", "; "),
)  # fmt: skip
"""Text fields in showing order, and what stands between the parts of those that are lists or objects."""


def amazon_reviews_files(source: AmazonReviewsData) -> tuple[Path, ...]:
    """List the two files."""
    return source.meta, source.reviews


@noting
def read_amazon_reviews(source: AmazonReviewsData, notes: Notes, seed: int = 0) -> Dataset:
    """Read the reviews of one category; a review of at least `min_rating` is an interaction.

    Items are products (``parent_asin``), not their variants. Lists and objects of the
    metadata are written as plain text. Raises DataError when a file is missing or holds
    none of the keys, or nothing is left.
    """
    meta_file, reviews_file = amazon_reviews_files(source)
    fields = [name for name, _ in _FIELDS]
    meta = read_json_lines(meta_file, notes, [_ID, *fields], encoding=source.encoding)
    _require_key(meta_file, meta, _ID)
    meta = empty_as_null(meta, fields, source.null_words, notes)
    texts = (text_of_json(pl.col(name), between).alias(name) for name, between in _FIELDS)
    items = meta.select(FILE, LINE, pl.col(_ID).alias(ITEM), *texts)
    reviews = read_json_lines(
        reviews_file, notes, ["user_id", _ID, "timestamp", "rating"], encoding=source.encoding
    )
    for key in ("user_id", _ID, "timestamp"):
        _require_key(reviews_file, reviews, key)
    reviews = empty_as_null(reviews, ["timestamp", "rating"], source.null_words, notes)
    reviews = _rated(reviews, source.min_rating, notes)
    times = read_times(reviews, "timestamp", notes, remedy="check that it is a file of Amazon Reviews 2023")
    events = reviews.select(
        FILE, LINE, pl.col("user_id").alias(USER), pl.col(_ID).alias(ITEM), times.alias(TIME)
    )
    return assemble(items, events, notes, null_words=source.null_words, seed=seed)


def _rated(reviews: pl.DataFrame, least: float, notes: Notes) -> pl.DataFrame:
    if not least:
        return reviews
    rating = pl.col("rating").cast(pl.Float64, strict=False)
    low = reviews.filter(rating < least)
    notes.add("low-rating", "reviews below min_rating are no interactions", "noted", low, "rating")
    unrated = reviews.filter(rating.is_null())
    notes.add("bad-row", "reviews without a readable rating are left out", "dropped", unrated, "rating")
    return reviews.filter(rating >= least)


def _require_key(path: Path, table: pl.DataFrame, key: str) -> None:
    if table[key].null_count() == table.height:
        message = f"{path}: no line has the key {key!r}; check that the file is one of Amazon Reviews 2023"
        raise DataError(message)


class AmazonReviews(Reader):
    """Amazon Reviews 2023; see `read_amazon_reviews`."""

    Settings = AmazonReviewsData
    signs = "Amazon Reviews 2023 (X.jsonl, meta_X.jsonl)"

    def files(self) -> tuple[Path, ...]:
        """List the files; see `amazon_reviews_files`."""
        return amazon_reviews_files(self.settings)

    def read(self, seed: int) -> tuple[Dataset, tuple[Finding, ...]]:
        """Read them; see `read_amazon_reviews`."""
        return read_amazon_reviews(self.settings, seed)

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
