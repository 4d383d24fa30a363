"""Where the data comes from, and which users, targets and negatives are made of it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, field_validator, model_validator

from trsr.config.section import Section, checking, require_each_once
from trsr.registry import READERS, dotted, find_part

NULL_WORDS: Final = (
    "N/A", "n/a", "NA", "#N/A", "<NA>", "NULL", "null", "(null)", r"\N", "NaN", "nan", "NaT", "None",
    "undefined",
)  # fmt: skip
"""What pandas, R, Arrow, MySQL, PostgreSQL, Hive, Spark and JavaScript write where nothing is."""


class Source(Section):
    """What the settings of every format have in common."""

    format: str
    """The format's name: a built-in one, or `package.module:Class` of your own reader."""


class DemoData(Source):
    """A generated shop: an old taste and a new need lead to items that are told in other words."""

    format: Literal["demo"] = "demo"
    """Generated data; needs no files."""
    users: int = Field(2000, ge=10)
    """Users to generate."""
    items: int = Field(800, ge=60)
    """Items to generate."""
    seed: int = 0
    """Seed of the generator, apart from the run's seed: the shop stays the same when a run is repeated."""
    planted: bool = True
    """False shuffles every history's items among users: the same texts without any taste or need to find."""
    images: bool = False
    """Give every item a field `image`, a drawing whose colour tells its look and whose shape its department;
    for the section `images`. Needs Pillow."""


class FileData(Source):
    """What the formats that are read from files have in common."""

    null_words: tuple[str, ...] = NULL_WORDS
    """Ids, texts and times that are one of these words, spelt so, count as empty; every one is counted in
    the findings. `[]` turns it off, for a shop that sells `None`."""
    encoding: str | None = None
    """Encoding of the text files, such as `cp1252` or `shift_jis`. Null: UTF-8, UTF-16 with its mark, or
    Western Windows (cp1252) where the bytes leave no doubt; whatever else is refused."""

    @field_validator("encoding")
    @classmethod
    def _known(cls, encoding: str | None) -> str | None:
        try:
            io.TextIOWrapper(io.BytesIO(), encoding)
        except LookupError as error:
            message = "must be an encoding that Python knows, such as cp1252, cp1251, shift_jis or gb18030"
            raise ValueError(message) from error
        return encoding


def _listed(paths: Any) -> Any:
    """Make one path a list, and null an empty one."""
    if paths is None:
        return ()
    return (paths,) if isinstance(paths, str | Path) else paths


class MindData(FileData):
    """MIND (Microsoft News): `news.tsv` and `behaviors.tsv`, without header."""

    format: Literal["mind"]
    """The format's name."""
    path: Path
    """Folder that holds `news.tsv` and `behaviors.tsv`."""
    texts: tuple[Path, ...] = ()
    """Further files that hold texts of news, and are read for nothing else: other `news.tsv`, or tables with
    the columns `news_id`, `title`, `category`, `subcategory` (or `subvert`) and `abstract`, also with
    something before all of them (`history_news_id`) and with several news in a cell, one a line. The first
    text of a news counts, those of `news.tsv` before all."""
    valid: Annotated[
        tuple[Path, ...], BeforeValidator(_listed, json_schema_input_type=Path | tuple[Path, ...])
    ] = ()
    """Impressions that are validation rows of the protocol `impressions`, one file or several: each a
    `behaviors.tsv`, or a table with `impression_id`, `history_news_id`, `candidate_news_id` (ids one a line)
    and `label` (`C2`: the second candidate). The users of `path` train then, all of them. The `behaviors.tsv`
    of `path` may be one of the files: then its clicks validate, and its histories alone train."""
    test: Path | None = None
    """Impressions that are test rows, of the same form."""

    @model_validator(mode="after")
    def _both_parts(self) -> MindData:
        if bool(self.valid) != (self.test is not None):
            message = "valid and test go together; give both, or neither"
            raise ValueError(message)
        if self.test is not None and self.test.resolve() in [path.resolve() for path in self.valid]:
            message = f"valid and test must be different files, got {self.test} in both"
            raise ValueError(message)
        require_each_once(self, "valid")
        return self


class AmazonM2Data(FileData):
    """Amazon-M2 (KDD Cup 2023): `products_*.csv` and `sessions_*.csv`."""

    format: Literal["amazon_m2"]
    """The format's name."""
    path: Path
    """Folder that holds the product and session files."""
    locale: str = "UK"
    """Sessions and products of this locale only."""


class AmazonReviewsData(FileData):
    """Amazon Reviews 2023: reviews and item metadata as JSON lines, gzipped or not."""

    format: Literal["amazon_reviews"]
    """The format's name."""
    reviews: Path
    """The reviews file (`Category.jsonl` or `.jsonl.gz`)."""
    meta: Path
    """The metadata file (`meta_Category.jsonl` or `.jsonl.gz`)."""
    min_rating: float = Field(0.0, ge=0, le=5)
    """Reviews below this rating are not interactions."""


class Amazon5CoreData(FileData):
    """Amazon Reviews 2018 as rolling 5-core rows: `*.csv` rows with histories, and `items.json`."""

    format: Literal["amazon_5core"]
    """The format's name."""
    path: Path
    """Folder that holds `items.json` and the row files."""
    files: tuple[str, ...] = ("train.csv", "valid.csv", "test.csv")
    """Row files from oldest to newest; those that are absent are skipped and said so. One user's rows are
    stitched into one history. With `split.protocol: rolling` the rows of the last file are the test's, those
    of the file before it the validation's."""


class MicroLensData(FileData):
    """MicroLens: `pairs.tsv` (user, tab, item ids by space) and `titles.csv` (item, title)."""

    format: Literal["microlens"]
    """The format's name."""
    path: Path
    """Folder that holds `pairs.tsv` and `titles.csv`."""


class MovieLensData(FileData):
    """MovieLens 100k, 1M, 10M, 20M and later: ratings, and movies with their texts."""

    format: Literal["movielens"]
    """The format's name."""
    path: Path
    """Folder that holds the files."""
    ratings: tuple[str, ...] = ()
    """Files of ratings in the folder. Empty: the first that are there of `u.data`, `u1.base` with `u1.test`,
    `ratings.dat` and `ratings.csv`."""
    targets: tuple[str, ...] = ()
    """Those of `ratings` that hold the targets: of each user the newest interaction in them is what is to be
    told, by all that stands in the other files, older or not. `u1.test` is a random cut, so that it tests
    preference and not what comes next. Users without such an interaction are left out."""
    movies: str | None = None
    """File of movies in the folder. Null: the first that is there of `movies.csv`, `u.item`, `movies.dat`."""
    columns: tuple[str, ...] | None = None
    """Columns of `movies.csv` that are text, beside title and genres. Null: `overview` and `tagline`, where
    they are there."""
    tags: int = Field(0, ge=0)
    """So many tags, the most frequent ones of `tags.csv`, belong to a movie's text. They are written by
    users at any time, also after the interactions that are to be told."""
    min_rating: float = Field(0.0, ge=0, le=5)
    """Ratings below this one are not interactions."""

    @model_validator(mode="after")
    def _targets_are_read(self) -> MovieLensData:
        if not set(self.targets) <= set(self.ratings) or (
            self.targets and set(self.targets) == set(self.ratings)
        ):
            message = f"targets must be some of `ratings`, not all, got {', '.join(self.targets)}"
            raise ValueError(message)
        return self


class RecBoleData(FileData):
    """RecBole's atomic files: `NAME.inter` and `NAME.item`, whose headers name fields and their types."""

    format: Literal["recbole"]
    """The format's name."""
    path: Path
    """Folder that holds the files."""
    name: str | None = None
    """What stands before the files' endings. Null: the one name that is in the folder."""
    files: tuple[str, ...] = ()
    """Files of interactions in the folder, from oldest to newest. Empty: `NAME.inter`, or those that are
    there of `NAME.train.inter`, `NAME.valid.inter` and `NAME.test.inter`."""
    user_field: str = "user_id"
    """Field that holds the user's id."""
    item_field: str = "item_id"
    """Field that holds the item's id, in both files. A field of this name with `_list` behind it holds the
    items before it, oldest first; the rows of one user are stitched then."""
    time_field: str = "timestamp"
    """Field that holds the time. Where there is none, rows are in order of time."""
    rating_field: str = "rating"
    """Field that holds the rating; read when `min_rating` is set."""
    min_rating: float = Field(0.0, ge=0)
    """Rows with a rating below this one are not interactions."""


class ItemTableData(FileData):
    """What the formats with an own table of items have in common."""

    items: Path
    """Table of items, one row an item."""
    item_id: str = "item_id"
    """Column of the item table that holds the id."""
    text_fields: dict[str, str] = Field(default_factory=dict)
    """Name to show -> column of the item table. Empty: every column but the id, under its own name."""


Separator = Literal["space", "tab", "comma"]


class SequenceData(ItemTableData):
    """A text file with one user a line, the items behind the user, oldest first; and a table of items."""

    format: Literal["sequences"]
    """The format's name."""
    sequences: Path
    """File with one user a line: `user item item item`."""
    separator: Separator | None = None
    """What parts items: `space` (any white space), `tab` or `comma`. Null: told by the lines, and refused
    where they leave it open."""
    user_separator: Separator | None = None
    """What parts the user from the first item. Null: a tab, else a comma, else white space, whichever is
    there."""


class TableData(ItemTableData):
    """Own tables (CSV, TSV, JSONL or Parquet), with the names of their columns."""

    format: Literal["tables"]
    """The format's name."""
    events: Path | None = None
    """Table of events, one row an interaction. Give this or `histories`."""
    histories: Path | None = None
    """Table of histories, one row a user, with a list of item ids, oldest first."""
    user_column: str = "user_id"
    """Column that holds the user's id."""
    item_column: str = "item_id"
    """Column of the event table that holds the item's id."""
    time_column: str | None = "time"
    """Column of the event table that holds the time; null: rows are in time order. Read are ISO 8601, the
    spellings of logs, mail, databases and social networks, and numbers since 1970 in s, ms, us or ns, each
    value by itself. Times without a zone are UTC."""
    time_format: str | None = None
    """How times are written, as in `strptime` (`%d/%m/%Y %H:%M`), or the unit of numbers: `s`, `ms`, `us`,
    `ns`. Null: each value tells; 11/02/2024 is February when a number above 12 says that days come first."""
    history_column: str = "item_ids"
    """Column of the history table that holds the list (real, JSON, or ids by space or comma)."""

    @model_validator(mode="after")
    def _one_source(self) -> TableData:
        if (self.events is None) == (self.histories is None):
            message = "give exactly one of `events` and `histories`"
            raise ValueError(message)
        return self

    @field_validator("time_format")
    @classmethod
    def _format_or_unit(cls, form: str | None) -> str | None:
        if form is not None and "%" not in form and form not in ("s", "ms", "us", "ns"):
            message = "must be a format such as %d/%m/%Y %H:%M, or one of s, ms, us, ns"
            raise ValueError(message)
        return form


def source_settings(reader: object) -> type[Source]:
    """Return the settings of a data format; raises ConfigError when there is no such reader."""
    settings: type[Source] = find_part("data format", dotted(reader), READERS).Settings
    return settings


def _chosen(source: object) -> Source:
    """Take settings as they are made, or check them by those of the reader that their `format` names."""
    if isinstance(source, Source):
        return source
    if not isinstance(source, Mapping) or "format" not in source:
        message = f"must be settings with a `format`, one of {', '.join(READERS)} or package.module:Class"
        raise ValueError(message)
    with checking():
        settings = source_settings(source["format"])
    return settings.model_validate({**source, "format": dotted(source["format"])})


DataSource = Annotated[
    SerializeAsAny[Source], BeforeValidator(_chosen, json_schema_input_type=dict[str, Any])
]
"""The section of one reader; which one, its `format` says."""


class ItemText(Section):
    """How an item becomes one line of text."""

    fields: tuple[str, ...] = ()
    """Fields that writers and baselines read, in this order. Empty: all of them, in the data's order."""
    max_tokens: int = Field(64, ge=4)
    """Cap of an item's line in a prompt, in tokens of the model that reads it."""


class HistoryWindow(Section):
    """Which users take part, by the length of their history with the target."""

    min: int = Field(11, ge=2)
    """Users with fewer interactions are left out, and counted."""
    max: int = Field(26, ge=2)
    """Longer histories keep their newest `max` interactions, and are counted."""
    background: bool = True
    """Models learn from the histories that are too short to take part, too; nobody is measured on them."""
    users: int | None = Field(None, ge=1)
    """A trial: so many of the users who take part, drawn by a seeded hash of their id, each in the same part
    of the split and with the same uniform negatives as in the whole run. The catalogue stays whole; nothing
    is learnt from anybody else. Null: all. `--users` sets it too."""

    @model_validator(mode="after")
    def _ordered(self) -> HistoryWindow:
        if self.max < self.min:
            message = f"max must be at least min ({self.min}), got {self.max}"
            raise ValueError(message)
        return self


ProtocolName = Literal["users", "rolling", "leave_last_out", "impressions"]
"""Who is measured, and on what; see docs/evaluation.md."""


class SplitRule(Section):
    """The protocol: what a measured row is, and how rows are divided into train, valid and test."""

    protocol: ProtocolName = "users"
    """`users`: a user is in one part with the whole history, the last item is the target. `rolling`: a row
    for every interaction but a user's first, cut by time, ranked in the whole catalogue with the history kept
    in it. `leave_last_out`: all users train on all but their last two items, the last but one is the
    validation target, the last one the test target, in the whole catalogue without the history.
    `impressions`: what was shown together, with one or several positives; needs data that holds it, and
    `candidates.sampler: impressions`."""
    by: Literal["hash", "time"] = "hash"
    """Of `users`. `hash`: by a seeded hash of the user id. `time`: by the time of the target, oldest are for
    training."""
    valid: float = Field(0.1, gt=0, lt=1)
    """Share for validation: of the users, or of the interactions that are `rolling` rows; data whose files
    say which rows are measured go by their files."""
    test: float = Field(0.1, gt=0, lt=1)
    """Share for the test; the rest trains."""

    @property
    def label(self) -> str:
        """What figures are called by where a user has several rows; empty elsewhere."""
        return {"rolling": "rolling", "leave_last_out": "leave-last-out"}.get(self.protocol, "")

    @property
    def whole_catalogue(self) -> bool:
        """Whether choices are made by ranks in the whole catalogue, and not among sampled candidates."""
        return self.protocol in ("rolling", "leave_last_out")

    @property
    def keeps_history(self) -> bool:
        """Whether items of the history stay in the ranking of the catalogue."""
        return self.protocol == "rolling"

    @model_validator(mode="after")
    def _leaves_some_to_train(self) -> SplitRule:
        if self.valid + self.test >= 1:
            message = f"valid + test must be below 1, got {self.valid + self.test:g}"
            raise ValueError(message)
        return self


class CandidateRule(Section):
    """Which items are ranked against the target."""

    negatives: int = Field(20, ge=1)
    """Negatives a user; those that are drawn are never the target nor anything in the history."""
    sampler: Literal["uniform", "popularity", "file", "impressions"] = "uniform"
    """`uniform` over the catalogue (the paper's), or `popularity`: in proportion to training count + 1.
    `file`: the test users are those of `file`, with its candidates; validation and training users have
    uniform ones. `impressions`: what was shown, of the protocol of that name."""
    file: Path | None = None
    """Lists of candidates that somebody else fixed: text with a user, a tab and item ids by space on a line,
    or Parquet with `user_id` and `item_id` (one, or a list). The first `negatives` of a user that aren't the
    target are taken, and the target is added."""

    @model_validator(mode="after")
    def _file_is_read(self) -> CandidateRule:
        if (self.sampler == "file") != (self.file is not None):
            message = "sampler: file and `file` go together; give both, or neither"
            raise ValueError(message)
        return self


def require_one_protocol(split: SplitRule, candidates: CandidateRule, history: HistoryWindow) -> None:
    """Raise ValueError where settings of two protocols stand beside each other."""
    name = split.protocol
    message = ""
    if (name == "impressions") != (candidates.sampler == "impressions"):
        message = (
            "split.protocol: impressions and candidates.sampler: impressions go together, got "
            f"{name} and {candidates.sampler}; set both, or neither"
        )
    elif name != "users" and candidates.sampler == "file":
        message = (
            f"candidates.file holds one list a user, and split.protocol: {name} has several rows; set "
            "split.protocol: users"
        )
    elif name != "users" and history.users is not None:
        message = f"history.users is of split.protocol: users, got {name}; leave it out"
    if message:
        raise ValueError(message)
