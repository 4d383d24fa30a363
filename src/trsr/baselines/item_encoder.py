"""Items as vectors of their texts: by words, or out of a file; reduced and scaled to start a table."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from trsr.artifacts import hash_path
from trsr.baselines.base import Learnt
from trsr.baselines.reducer import Reducer, ReducerName, open_reducer, scaled
from trsr.baselines.training_data import Places, TrainingData
from trsr.config.section import Section, named_by
from trsr.errors import ConfigError, DataError
from trsr.prompts.words import words
from trsr.records import ITEM
from trsr.registry import ENCODERS, identity, make_part, parse, settings_of

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer

Vectors = NDArray[np.float32]
"""One row an item."""

EncoderName = Annotated[
    str,
    BeforeValidator(named_by("encoder", ENCODERS), json_schema_input_type=str | dict[str, Any]),
]
"""An encoder by its name with settings: `sentence(model='minilm')`, or `{kind: sentence, model: minilm}`."""


def item_texts(items: pl.DataFrame, fields: Sequence[str] = ()) -> list[str]:
    """Join the text fields of every item with a space, in the order of `fields`; missing ones are left out.

    Without `fields` all are joined.

    Examples
    --------
    >>> item_texts(pl.DataFrame({"item_id": ["a"], "title": ["Hammer"], "brand": [None]}))
    ['Hammer']
    """
    names = tuple(fields) or tuple(name for name in items.columns if name != ITEM)
    if unknown := [name for name in names if name not in items.columns]:
        known = ", ".join(name for name in items.columns if name != ITEM)
        message = f"items have no text field {unknown[0]!r}; theirs are {known}"
        raise ConfigError(message)
    return items.select(pl.concat_str(names, separator=" ", ignore_nulls=True)).to_series().to_list()


class ItemEncoder(Learnt, ABC):
    """Turns items into vectors, by a key of each: its text, unless the class says otherwise.

    Parameters
    ----------
    seed
        Of whatever is drawn.
    settings
        Values of the class's own ``Settings``, by keyword.
    """

    Settings: ClassVar[type[Section]] = Section
    """What can be set, with its defaults; a method ``content`` says what else vectors depend on."""

    def __init__(self, *, seed: int = 0, **settings: Any) -> None:
        self.seed = seed
        self.settings: Any = self.Settings(**settings)
        self.notes: list[str] = []
        """What was left out or repaired, counted."""

    def keys(self, items: pl.DataFrame, fields: Sequence[str]) -> list[str]:
        """Return what stands for each item; items of one key have one vector."""
        return item_texts(items, fields)

    def fit(self, keys: Sequence[str], histories: Sequence[Places] = ()) -> None:
        """Learn from the catalogue's keys, where there is something to learn.

        `histories` are those of `TrainingData.sequences`, places among the keys: no user who is measured is
        among them.
        """

    @abstractmethod
    def encode(self, keys: Sequence[str]) -> Vectors:
        """Return the vectors of keys, ``(n_keys, width)``; one without a word is all 0."""


def open_encoder(name: str, seed: int) -> ItemEncoder:
    """Make an encoder from its name with settings; raises `ConfigError` when there is none, or one lacks."""
    settings_of("encoder", *parse(name), ENCODERS)
    opened: ItemEncoder = make_part("encoder", name, ENCODERS, seed=seed)
    return opened


class LsaSettings(Section):
    """How words become few numbers."""

    width: int = Field(64, ge=1)
    """Numbers in a vector."""


class Lsa(ItemEncoder):
    """TF-IDF of words and pairs of words, by a randomized SVD; rows have length 1.

    Source: Deerwester et al., Indexing by latent semantic analysis, JASIS 1990.
    """

    Settings = LsaSettings
    learnt = ("_vocabulary", "_idf", "_components")

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._vocabulary: list[str] = []
        self._idf = np.empty(0, np.float32)
        self._components = np.empty((0, 0), np.float32)

    def fit(self, keys: Sequence[str], histories: Sequence[Places] = ()) -> None:
        """Learn words, their weights and their directions; see `ItemEncoder`."""
        # A word of one item alone ties it to nothing.
        vectorizer = self._new_vectorizer(min_df=2)
        try:
            weights = vectorizer.fit_transform(keys)
        except ValueError:  # no word is left
            return
        kept = min(self.settings.width, min(weights.shape) - 1)
        if kept < 1:
            return
        # Who loads a trained system needs no scikit-learn.
        library = importlib.import_module("sklearn.decomposition")
        directions = library.TruncatedSVD(kept, random_state=self.seed).fit(weights).components_
        self._vocabulary = vectorizer.get_feature_names_out().tolist()
        self._idf = vectorizer.idf_.astype(np.float32)
        self._components = directions.astype(np.float32)

    def encode(self, keys: Sequence[str]) -> Vectors:
        """Weigh the words that the catalogue has; see `ItemEncoder`."""
        vectors = np.zeros((len(keys), self.settings.width), np.float32)
        if self._vocabulary and keys:
            vectors[:, : len(self._components)] = self._vectorizer.transform(keys) @ self._components.T
        return _of_length_1(vectors)

    @cached_property
    def _vectorizer(self) -> TfidfVectorizer:
        vectorizer = self._new_vectorizer(vocabulary=self._vocabulary)
        vectorizer.idf_ = self._idf
        return vectorizer

    @staticmethod
    def _new_vectorizer(**options: Any) -> TfidfVectorizer:
        library = importlib.import_module("sklearn.feature_extraction.text")
        return library.TfidfVectorizer(
            tokenizer=words,
            token_pattern=None,
            sublinear_tf=True,
            stop_words="english",
            ngram_range=(1, 2),
            dtype=np.float32,
            **options,
        )


class VectorFileSettings(Section):
    """Where vectors lie."""

    path: Path
    """Parquet with the columns `item_id` and `vector` (lists of numbers), or CSV or TSV whose other columns
    are the numbers."""
    missing: Literal["refuse", "zero"] = "refuse"
    """What becomes of an item without a vector: the file is refused, or the item is near nothing, counted."""

    def content(self) -> str:
        """Hash the file; see `trsr.registry.identity`."""
        return hash_path(self.path) if self.path.is_file() else "no file"


_NUMBERS: Final = "vector"
_SHOWN: Final = 3


class VectorFile(ItemEncoder):
    """Vectors that somebody else has made, by item id."""

    Settings = VectorFileSettings
    learnt = ("_ids", "_table")

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._ids: list[str] = []
        self._table = np.empty((0, 0), np.float32)

    def keys(self, items: pl.DataFrame, fields: Sequence[str]) -> list[str]:
        """Return the ids; see `ItemEncoder`."""
        return items[ITEM].to_list() if ITEM in items.columns else [""] * items.height

    def fit(self, keys: Sequence[str], histories: Sequence[Places] = ()) -> None:
        """Read the file; raises `DataError` when it can't be used."""
        self._ids, self._table = read_vectors(self.settings.path)

    def encode(self, keys: Sequence[str]) -> Vectors:
        """Look vectors up; raises `DataError` when some are missing and that is refused."""
        place = {item: number for number, item in enumerate(self._ids)}
        missing = [key for key in keys if key not in place]
        told = f"{self.settings.path}: {len(missing):,} of {len(keys):,} items have no vector"
        if missing and self.settings.missing == "refuse":
            some = ", ".join(missing[:_SHOWN])
            message = (
                f"{told} ({some}{', ...' if len(missing) > _SHOWN else ''}); add them, or set missing: zero"
            )
            raise DataError(message)
        if missing:
            self.notes = [f"{told}: they are near nothing"]
        vectors = np.zeros((len(keys), self._table.shape[1]), np.float32)
        known = [number for number, key in enumerate(keys) if key in place]
        vectors[known] = self._table[[place[keys[number]] for number in known]]
        return vectors


def read_vectors(path: Path) -> tuple[list[str], Vectors]:
    """Read ids and vectors ``(n_ids, width)``; see `VectorFileSettings.path`.

    Raises `DataError` when the file is none, an id stands twice, or a number is missing or not finite.
    """
    readers: dict[str, Callable[[Path], pl.DataFrame]] = {
        ".parquet": pl.read_parquet,
        ".csv": _read_csv,
        ".tsv": lambda file: _read_csv(file, "\t"),
    }
    if path.suffix not in readers:
        message = (
            f"{path}: vectors are read from {', '.join(readers)}, not from {path.suffix or 'no ending'!r}"
        )
        raise DataError(message)
    try:
        frame = readers[path.suffix](path)
        ids = frame[ITEM].cast(pl.String)
        numbers = frame[_NUMBERS].list.to_array(frame[_NUMBERS].list.len()[0]) if _NUMBERS in frame else None
        table = frame.drop(ITEM).to_numpy() if numbers is None else numbers.to_numpy()
        vectors = table.astype(np.float32)
    # A broken file raises whatever its reader raises.
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        message = f"{path}: no table of {ITEM} and numbers, all rows of one length ({reason})"
        raise DataError(message) from error
    wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    for rows, what in ((np.flatnonzero(ids.is_null()), "no item_id"), (wrong, "a number that is not finite")):
        if len(rows):
            message = f"{path}: row {rows[0] + 1} has {what} ({len(rows):,} rows); mend or delete them"
            raise DataError(message)
    if ids.n_unique() < len(ids):
        twice = ids.filter(ids.is_duplicated())[0]
        message = f"{path}: the item {twice!r} stands there more than once; keep one row an item"
        raise DataError(message)
    return ids.to_list(), vectors


def _read_csv(path: Path, separator: str = ",") -> pl.DataFrame:
    return pl.read_csv(
        path, separator=separator, schema_overrides={ITEM: pl.String}, infer_schema_length=None
    )


class VectorSettings(Section):
    """What items' vectors are made of."""

    encoder: EncoderName = "lsa"
    """What turns items into vectors: `lsa(width=64)` (words, built in), `sentence(model='minilm')`,
    `language_model(model='smollm2-135m', pooling='mean')`, `llm2rec(model='smollm2-135m')`,
    `file(path='vectors.parquet')`, or your own."""
    reducer: ReducerName = "pca"
    """How vectors become as wide as they are needed: `pca`, `random` (a Gaussian projection), `lda` (what
    tells `classes` apart), `autoencoder` (the middle of a network that gives vectors back), or `none`."""
    classes: str = ""
    """Field of the items whose values are the classes of the reducer `lda`, such as category."""
    fields: tuple[str, ...] = ()
    """Text fields that are read, such as `(title,)`; empty: those of `items.fields`."""
    permuted: bool = False
    """Give every item the vector of another, by lot: the control. What then still helps is not the texts."""

    def content(self) -> Any:
        """Say what the encoder is; see `trsr.registry.identity`."""
        return identity("encoder", self.encoder, ENCODERS)

    @model_validator(mode="after")
    def _classes_for_lda(self) -> Self:
        if (self.reducer == "lda") != bool(self.classes):
            message = (
                "the reducer lda learns what tells classes of items apart, and no other reads them: name "
                "their field by classes, such as category, with lda alone; got reducer "
                f"{self.reducer!r}, classes {self.classes!r}"
            )
            raise ValueError(message)
        return self

    def fitted_reducer(self, vectors: Vectors, items: pl.DataFrame, width: int, seed: int) -> Reducer:
        """Learn from the catalogue's vectors, ``(n_items, n)``, how vectors become `width` numbers."""
        reducer = open_reducer(self.reducer, width, seed)
        reducer.fit(vectors, item_classes(items, self.classes) if self.classes else ())
        return reducer


def item_classes(items: pl.DataFrame, field: str) -> list[str | None]:
    """Give the value of one field of every item, None where it is empty; raises `ConfigError` without it.

    Examples
    --------
    >>> item_classes(pl.DataFrame({"item_id": ["a", "b"], "category": ["tools ", None]}), "category")
    ['tools', None]
    """
    stripped = pl.Series(item_texts(items, (field,)), dtype=pl.String).str.strip_chars()
    return [value or None for value in stripped.to_list()]


def start_table(settings: Any, data: TrainingData, seed: int) -> tuple[Vectors, tuple[str, ...]]:
    """Return the vectors that a network's items start from, ``(n_items, width)``, and what is to be told.

    `settings` are a `VectorSettings` with the network's `width`, its `adapter` and the vectors' `length`.
    Raises `ConfigError` when the vectors don't fit the table and nothing fits them to it.
    """
    encoder = open_encoder(settings.encoder, seed)
    keys = encoder.keys(data.items, settings.fields or data.fields)
    encoder.fit(keys, data.sequences)
    vectors = encoder.encode(keys)
    reducer = settings.fitted_reducer(vectors, data.items, settings.width, seed)
    reduced = reducer(vectors)
    if settings.adapter == "none" and reduced.shape[1] != settings.width:
        message = (
            f"the vectors of {settings.encoder} have {reduced.shape[1]} numbers, and items have "
            f"{settings.width}: set reducer to pca, random, lda or autoencoder, an adapter, or width to "
            f"{reduced.shape[1]}"
        )
        raise ConfigError(message)
    if settings.permuted:
        reduced = reduced[np.random.default_rng(seed).permutation(len(reduced))]
    return scaled(reduced, settings.length), (*encoder.notes, *reducer.notes)


def _of_length_1(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
