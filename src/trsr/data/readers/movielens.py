"""MovieLens: 100k (`u.data`, `u.item`), 1M and 10M (`::`), 20M and later (CSV), and parts of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import polars as pl

from trsr.config.data import MovieLensData
from trsr.data.cleaning import empty_as_null, python_value
from trsr.data.dataset import Dataset, Reader
from trsr.data.delimited import read_delimited
from trsr.data.notes import FILE, LINE, Notes, noting
from trsr.data.readers.tables import first_match
from trsr.data.repair import assemble, rated
from trsr.data.text_files import require_columns
from trsr.data.times import read_times
from trsr.errors import DataError
from trsr.records import ITEM, TIME, USER

_GENRES: Final = (
    "unknown", "Action", "Adventure", "Animation", "Children", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
"""Columns of 100k's movies that hold 0 or 1."""
_NO_GENRE: Final = ("unknown", "(no genres listed)")
_MOVIE_COLUMNS: Final = {
    ".item": (ITEM, "title", "release_date", "video_release_date", "url", *_GENRES),
    ".dat": (ITEM, "title", "genres"),
}
"""Columns of the files of movies that have no header, by the files' endings."""
_MOVIES: Final = ("movies.csv", "u.item", "movies.dat")
_RATINGS: Final = (("u.data",), ("u1.base", "u1.test"), ("ratings.dat",), ("ratings.csv",))
_EXTRA: Final[tuple[str, ...]] = ("overview", "tagline")
_NAMES: Final = {
    USER: ("userid", "user_id", "user"),
    ITEM: ("movieid", "movie_id", "item_id", "itemid"),
    "rating": ("rating",),
    TIME: ("timestamp", "time"),
}
"""What columns are called in files with a header, in small letters."""


class MovieLens(Reader):
    """MovieLens."""

    Settings = MovieLensData
    signs = "MovieLens (u.data or u1.base, ratings.dat, or ratings.csv with movies.csv)"

    def files(self) -> tuple[Path, ...]:
        """List the file of movies, the files of ratings, and that of tags where it is read.

        Raises DataError when there is no file of movies or of ratings.
        """
        source: MovieLensData = self.settings
        there = {path.name for path in source.path.glob("*")}
        movies = source.movies or next((name for name in _MOVIES if name in there), None)
        found = ([name for name in group if name in there] for group in _RATINGS)
        ratings = list(source.ratings) or next((group for group in found if group), [])
        for what, names, known, setting in (
            ("movies", [movies] if movies else [], _MOVIES, "movies"),
            ("ratings", ratings, [name for group in _RATINGS for name in group], "ratings"),
        ):
            if not names:
                message = (
                    f"{source.path}: no file of {what} ({', '.join(known)}) here, found "
                    f"{', '.join(sorted(there)[:12]) or 'nothing'}; check data.path, or name it by "
                    f"data.{setting}"
                )
                raise DataError(message)
        tags = ["tags.csv"] if source.tags else []
        return tuple(source.path / name for name in (str(movies), *ratings, *tags))

    @noting
    def read(self, notes: Notes, seed: int) -> Dataset:
        """Read ratings, of which those of at least `min_rating` are interactions, and the movies' texts.

        Raises DataError when a file or column is missing, or nothing is left.
        """
        source: MovieLensData = self.settings
        movies_file, *files = self.files()
        tags = _tags(files.pop(), source, notes) if source.tags else None
        items = _movies(movies_file, source, notes)
        if tags is not None:
            items = items.join(tags, on=ITEM, how="left", maintain_order="left")
        ratings = pl.concat([_ratings(path, source, notes) for path in files])
        events = rated(ratings, "rating", source.min_rating, notes)
        times = read_times(events, TIME, notes, remedy="MovieLens' times are seconds since 1970")
        events = events.select(FILE, LINE, USER, ITEM, times.alias(TIME))
        if source.targets:
            events = _targets_last(events, items, source, notes)
        return assemble(items, events, notes, null_words=source.null_words, seed=seed)

    @classmethod
    def detect(cls, folder: Path, names: set[str]) -> MovieLensData | None:
        """Recognise the files; see `Reader`."""
        known = {"u.data", "u1.base", "ratings.dat"} & names or {"ratings.csv", "movies.csv"} <= names
        return MovieLensData(format="movielens", path=folder) if known else None


def _targets_last(
    events: pl.DataFrame, items: pl.DataFrame, source: MovieLensData, notes: Notes
) -> pl.DataFrame:
    """Let each user's newest interaction in the files of targets follow those in the other files."""
    held = pl.col(FILE).is_in(source.targets)
    known = events.filter(held).join(items.select(pl.col(ITEM).str.strip_chars()), on=ITEM, how="semi")
    target = known.sort(TIME, LINE, nulls_last=False).group_by(USER, maintain_order=True).last()
    others = events.filter(~held)
    lacking = others.join(target, on=USER, how="anti")
    notes.count(
        "no-target",
        f"users without an interaction in {', '.join(source.targets)} are left out (data.targets)",
        "dropped",
        lacking[USER].n_unique(),
    )
    last = others.group_by(USER).agg(pl.col(TIME).max().alias("_last"))
    target = target.join(last, on=USER).with_columns(pl.max_horizontal(TIME, pl.col("_last") + 1).alias(TIME))
    return pl.concat([others.join(target, on=USER, how="semi"), target.select(events.columns)])


def _read(path: Path, source: MovieLensData, notes: Notes, columns: Sequence[str] | None) -> pl.DataFrame:
    encoding = source.encoding or _latin(path, notes)
    if path.suffix == ".csv":
        return read_delimited(path, ",", notes, encoding=encoding, number_repeats=True)
    separator = "::" if path.suffix == ".dat" else "|" if path.suffix == ".item" else "\t"
    return read_delimited(path, separator, notes, columns=columns, quoted=False, encoding=encoding)


def _latin(path: Path, notes: Notes) -> str | None:
    """Tell Latin-1, in which MovieLens was published up to 1M, from UTF-8; CSV files are left to be told."""
    try:
        if path.suffix != ".csv":
            path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        message = "the file is Latin-1, as MovieLens' older ones are, and read so (`data.encoding`)"
        notes.count("encoding", message, "noted", 1, (f"{path.name}:1: ",))
        return "latin-1"
    except OSError:
        return None  # told by whoever reads it
    return None


def _ratings(path: Path, source: MovieLensData, notes: Notes) -> pl.DataFrame:
    table = _read(path, source, notes, (USER, ITEM, "rating", TIME))
    return _renamed(path, table, tuple(_NAMES)).select(FILE, LINE, *_NAMES)


def _renamed(path: Path, table: pl.DataFrame, wanted: Sequence[str]) -> pl.DataFrame:
    """Call the columns of a file with a header as those of the files without one are called."""
    found = {name: first_match(table.columns, _NAMES[name]) for name in wanted}
    missing = [name for name, column in found.items() if column is None]
    if missing:
        message = (
            f"{path}: no column {' or '.join(map(repr, _NAMES[missing[0]]))}; the columns are "
            f"{', '.join(name for name in table.columns if name not in (FILE, LINE))}. Mend the header, or "
            "read the files as own tables (`format: tables`)"
        )
        raise DataError(message)
    return table.rename({column: name for name, column in found.items() if column is not None})


def _movies(path: Path, source: MovieLensData, notes: Notes) -> pl.DataFrame:
    columns = _MOVIE_COLUMNS.get(path.suffix)
    table = _renamed(path, _read(path, source, notes, columns), (ITEM,))
    if source.columns is None:
        extra = [name for name in _EXTRA if name in table.columns]
    else:
        extra = list(source.columns)
    require_columns(path, table, ("title", *extra))
    if not {"genres", *_GENRES[1:]} & set(table.columns):
        require_columns(path, table, ("genres",))
    texts = [name for name in extra if name not in ("title", "genres")]
    return table.select(FILE, LINE, ITEM, "title", _genres(table), *texts)


def _genres(table: pl.DataFrame) -> pl.Series:
    """Write genres by comma: of a list by ``|``, of objects with a ``name``, or of columns of 0 and 1."""
    flags = [
        pl.when(pl.col(name).str.strip_chars() == "1").then(pl.lit(name))
        for name in _GENRES
        if name in table.columns and name not in _NO_GENRE
    ]
    flags.append(pl.when(pl.col(LINE) < 0).then(pl.lit("")))  # a text a row where no such column is
    by_flags = table.select(
        pl.concat_str(flags, separator=", ", ignore_nulls=True).alias("genres")
    ).to_series()
    if "genres" not in table.columns:
        return by_flags
    written = [_genre_names(text or "") for text in table["genres"]]
    return pl.Series("genres", [text or flag for text, flag in zip(written, by_flags, strict=False)])


def _genre_names(text: str) -> str:
    text = text.strip()
    if text.startswith("["):
        try:
            value: Any = python_value(text)
        except ValueError:
            return text
        names = [part.get("name", "") if isinstance(part, dict) else part for part in value]
    else:
        names = text.split("|")
    return ", ".join(str(name).strip() for name in names if name and name not in _NO_GENRE)


def _tags(path: Path, source: MovieLensData, notes: Notes) -> pl.DataFrame:
    """Give each movie its most frequent tags, in one text; of equally frequent ones the first given."""
    table = _renamed(path, _read(path, source, notes, None), (ITEM,))
    require_columns(path, table, ("tag",))
    table = empty_as_null(table, ["tag"], source.null_words, notes)
    tag = pl.col("tag").str.strip_chars()
    counted = (
        table.select(ITEM, tag, tag.str.to_lowercase().alias("_same"))
        .filter(pl.col("tag") != "")
        .group_by(ITEM, "_same", maintain_order=True)
        .agg(pl.col("tag").first(), pl.len())
        .sort("len", descending=True, maintain_order=True)
    )
    text = pl.col("tag").head(source.tags).str.join(", ")
    return counted.group_by(ITEM, maintain_order=True).agg(text.alias("tags"))
