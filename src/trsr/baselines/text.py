"""Systems that compare texts: TF-IDF, BM25, sentence embeddings."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from trsr.baselines.base import Decay, ReadsText, history_rows, log_likeness, products, row_kinds, share_ties
from trsr.baselines.item_encoder import VectorSettings, item_texts, open_encoder
from trsr.baselines.reducer import ReducerName, open_reducer
from trsr.baselines.training_data import Places, TrainingData
from trsr.config.section import Section
from trsr.errors import ConfigError
from trsr.prompts.words import words
from trsr.records import ITEM
from trsr.registry import ENCODERS, identity, spell

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import CountVectorizer


class CountsWords(ReadsText):
    """What systems that count words have in common; scikit-learn is loaded only when texts are to be read."""

    learnt: ClassVar[tuple[str, ...]] = ("_fields", "_vocabulary")

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._fields: tuple[str, ...] = ()
        self._vocabulary: list[str] = []

    def _learn_words(self, data: TrainingData) -> list[str]:
        """Learn the catalogue's words, and return its texts."""
        self._fields = data.fields
        texts = item_texts(data.items, data.fields)
        analyze = self._new_vectorizer().build_analyzer()
        # A catalogue without a word ties everything instead of failing.
        self._vocabulary = sorted({word for text in texts for word in analyze(text)}) or ["wordless"]
        return texts

    def _counts(self, texts: Sequence[str]) -> sparse.csr_array:
        """Count the words that the catalogue has, ``(n_texts, n_words)``."""
        return sparse.csr_array(self._vectorizer.transform(texts))

    @cached_property
    def _vectorizer(self) -> CountVectorizer:
        return self._new_vectorizer(vocabulary=self._vocabulary)

    def _new_vectorizer(self, **options: Any) -> CountVectorizer:
        library = importlib.import_module("sklearn.feature_extraction.text")
        # English stop words and damped counts are worth .02 to .04 Recall@3 on titles of shops and videos.
        return library.CountVectorizer(
            tokenizer=words, token_pattern=None, stop_words="english", dtype=np.float64, **options
        )


class TextSimilaritySettings(Section):
    """What is read, and how items of the history count."""

    decay: float = Field(1.0, gt=0, le=1)
    """What an item of the history weighs, to the power of its age."""
    title: bool = False
    """Read the first text field alone, which is the title in every format."""


class TextSimilarity(CountsWords):
    """Cosine between the TF-IDF vector of the candidate and the weighted sum of those of the history."""

    label = "TF-IDF similarity"
    description = "Items whose texts share rare words with the texts of the history."
    Settings = TextSimilaritySettings
    learnt = (*CountsWords.learnt, "_idf", "_vectors")
    utilities = staticmethod(log_likeness)

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._idf = np.empty(0)
        self._vectors = sparse.csr_array((0, 0))

    def fit(self, data: TrainingData) -> None:
        """Learn the words and their weights from the catalogue; see `Baseline`."""
        if self.settings.title:
            named = data.fields or tuple(name for name in data.items.columns if name != ITEM)
            data = replace(data, fields=named[:1])
        texts = self._learn_words(data)
        counts = self._counts(texts)
        having = np.bincount(counts.indices, minlength=counts.shape[1])
        self._idf = np.log((1 + max(len(texts), 1)) / (1 + having)) + 1
        self._vectors = self._weigh(counts)

    def with_items(self, items: pl.DataFrame, among: Places) -> TextSimilarity:
        """Make a system that knows other items; see `ReadsText`."""
        other = copy(self)
        new = self._weigh(self._counts(item_texts(items, self._fields)))
        other._vectors = sparse.csr_array(sparse.vstack([self._vectors[among], new]))
        return other

    def score(
        self, users: Sequence[str], histories: Sequence[Places], candidates: Places | None = None
    ) -> NDArray[np.float64]:
        """Compare candidates with histories; see `Baseline`."""
        taken = history_rows(histories, self._vectors.shape[0], self.settings.decay)
        profiles = _normalized(sparse.csr_array(taken @ self._vectors))
        return products(profiles, self._vectors, candidates, self._by_feature(self._vectors))

    def _weigh(self, counts: sparse.csr_array) -> sparse.csr_array:
        """Turn counts into vectors of length 1."""
        damped = (1 + np.log(counts.data)) * self._idf[counts.indices]
        return _normalized(sparse.csr_array((damped, counts.indices, counts.indptr), shape=counts.shape))


def _normalized(rows: sparse.csr_array) -> sparse.csr_array:
    lengths = np.sqrt(rows.multiply(rows).sum(axis=1))
    shared = np.repeat(np.where(lengths > 0, lengths, 1.0), np.diff(rows.indptr))
    return sparse.csr_array((rows.data / shared, rows.indices, rows.indptr), shape=rows.shape)


class Bm25Settings(Section):
    """The two numbers of BM25, at their usual values."""

    k1: float = Field(1.2, ge=0)
    """How soon further occurrences of a word in an item stop to count."""
    b: float = Field(0.75, ge=0, le=1)
    """How much long items are marked down."""


class Bm25(CountsWords):
    """Okapi BM25, summed over the history's words.

    A word counts in the query as often as items of the history have it. Scores are divided by the
    length of the history. Source: Robertson and Zaragoza, The Probabilistic Relevance Framework:
    BM25 and Beyond, 2009, with Lucene's idf, which is never negative.
    """

    label = "BM25 similarity"
    description = "Items that a search for the words of the history would find."
    Settings = Bm25Settings
    learnt = (*CountsWords.learnt, "_idf", "_mean_length", "_words", "_weights")

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._idf = np.empty(0)
        self._mean_length = 1.0
        self._words = sparse.csr_array((0, 0))
        self._weights = sparse.csr_array((0, 0))

    def fit(self, data: TrainingData) -> None:
        """Learn the words, their weights and the mean length from the catalogue; see `Baseline`."""
        texts = self._learn_words(data)
        counts = self._counts(texts)
        having = np.bincount(counts.indices, minlength=counts.shape[1])
        self._idf = np.log1p((len(texts) - having + 0.5) / (having + 0.5))
        self._mean_length = max(float(counts.sum()) / max(len(texts), 1), 1.0)
        self._words, self._weights = self._weigh(counts)

    def with_items(self, items: pl.DataFrame, among: Places) -> Bm25:
        """Make a system that knows other items; see `ReadsText`."""
        other = copy(self)
        having, weights = self._weigh(self._counts(item_texts(items, self._fields)))
        other._words = sparse.csr_array(sparse.vstack([self._words[among], having]))
        other._weights = sparse.csr_array(sparse.vstack([self._weights[among], weights]))
        return other

    def score(
        self, users: Sequence[str], histories: Sequence[Places], candidates: Places | None = None
    ) -> NDArray[np.float64]:
        """Score candidates as answers to histories; see `Baseline`."""
        taken = history_rows(histories, self._words.shape[0])
        words = sparse.csr_array(taken @ self._words)
        scores = products(words, self._weights, candidates, self._by_feature(self._weights))
        lengths = np.array([max(len(history), 1) for history in histories], dtype=np.float64)
        return scores / lengths[:, None]

    @staticmethod
    def utilities(scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Take the logarithm; see `Baseline`."""
        logarithms: NDArray[np.float64] = np.log1p(np.maximum(scores, 0.0))
        return logarithms

    def _weigh(self, counts: sparse.csr_array) -> tuple[sparse.csr_array, sparse.csr_array]:
        """Return which words each item has, and how much each of them counts for the item."""
        lengths = np.repeat(counts.sum(axis=1), np.diff(counts.indptr))
        k1, b = self.settings.k1, self.settings.b
        damping = k1 * (1 - b + b * lengths / self._mean_length)
        strength = self._idf[counts.indices] * counts.data * (k1 + 1) / (counts.data + damping)
        form = {"shape": counts.shape}
        having = sparse.csr_array((np.ones_like(counts.data), counts.indices, counts.indptr), **form)
        return having, sparse.csr_array((strength, counts.indices, counts.indptr), **form)


_LEAST: Final = 1e-5

DECAYS: Final[Mapping[str, Decay]] = MappingProxyType(
    {
        "last": lambda ages, n: (ages == 1).astype(np.float64),
        "none": lambda ages, n: np.ones_like(ages),
        "constant_linear": lambda ages, n: np.maximum(_LEAST, 1 - 0.1 * (ages - 1)),
        "scaling_linear": lambda ages, n: np.maximum(_LEAST, 1 - (ages - 1) / n),
        "scaling_quadratic": lambda ages, n: np.maximum(_LEAST, 1 - (ages - 1) / n) ** 2,
        "scaling_cubic": lambda ages, n: np.maximum(_LEAST, 1 - (ages - 1) / n) ** 3,
        "log": lambda ages, n: 1 / (1 + np.log(ages)),
        "harmonic": lambda ages, n: 1 / ages,
        "harmonic_squared": lambda ages, n: 1 / ages**2,
    }
)
"""What an item of a history weighs, by its age (1 for the newest) and the history's length n."""

DecayName = Literal[
    "last", "none", "constant_linear", "scaling_linear", "scaling_quadratic", "scaling_cubic", "log",
    "harmonic", "harmonic_squared",
]  # fmt: skip
"""A key of `DECAYS`."""


class LLMSeqSimSettings(VectorSettings):
    """How items become vectors, histories a vector, and two vectors a likeness."""

    reducer: ReducerName = "none"
    """How vectors become `width` numbers: as for `llm2sasrec`, or `none`."""
    width: int = Field(64, ge=1)
    """Numbers that the reducer leaves."""
    decay: DecayName = "harmonic"
    """What an item of the history weighs by its age: 1 for the newest, 2, ... `last`: the newest alone;
    `none`: all alike; `constant_linear`: a tenth less each; `scaling_linear`, `scaling_quadratic`,
    `scaling_cubic`: falling to 0 at the oldest; `log`: 1 / (1 + ln age); `harmonic`: 1 / age;
    `harmonic_squared`."""
    similarity: Literal["cosine", "dot", "euclidean"] = "cosine"
    """Of the history's mean and the candidate; `euclidean` is 1 / (1 + distance)."""


class LLMSeqSim(ReadsText):
    """Items whose vectors are near the weighted mean of those of the history; nothing is trained.

    An empty history ties everything, and so do items without a text. Source: Harte et al., Leveraging large
    language models for sequential recommendation, RecSys 2023.
    """

    label = "LLMSeqSim"
    description = "Items whose texts lie near those of the history, the newest first; nothing is trained."
    Settings: ClassVar[type[Section]] = LLMSeqSimSettings
    learnt = ("_fields", "_keys", "_vectors", "_kinds", "notes")

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._how = self._compared()
        self._encoder = open_encoder(self._how.encoder, self.seed)
        self._reducer = open_reducer(self._how.reducer, self._how.width, self.seed)
        self._fields: tuple[str, ...] = ()
        self._keys: list[str] = []
        self._vectors = np.empty((0, 0))
        self._kinds = np.empty(0, np.int64)

    def fit(self, data: TrainingData) -> None:
        """Encode the catalogue; see `Baseline`. Raises what its encoder raises."""
        self._fields = self._how.fields or data.fields
        self._keys = self._encoder.keys(data.items, self._fields)
        self._encoder.fit(self._keys, data.sequences)
        vectors = self._encoder.encode(self._keys)
        self._reducer = self._how.fitted_reducer(vectors, data.items, self._how.width, self.seed)
        self._vectors = self._made(vectors)
        if self._how.permuted:
            self._vectors = self._vectors[np.random.default_rng(self.seed).permutation(len(self._vectors))]
        self._kinds = row_kinds(self._vectors)
        self.notes = (*self._encoder.notes, *self._reducer.notes)

    def with_items(self, items: pl.DataFrame, among: Places) -> LLMSeqSim:
        """Make a system that knows other items; see `ReadsText`."""
        other = copy(self)
        keys = self._encoder.keys(items, self._fields)
        # An item of a known key has its vector: computed anew it is rounded differently, and doesn't tie.
        known = {} if self._how.permuted else dict(zip(self._keys, self._vectors, strict=True))
        unknown = list(dict.fromkeys(key for key in keys if key not in known))
        if unknown:
            known |= zip(unknown, self._made(self._encoder.encode(unknown)), strict=True)
        new = np.array([known[key] for key in keys]).reshape(len(keys), -1)
        other._keys = [*(self._keys[place] for place in among), *keys]
        other._vectors = np.concatenate([self._vectors[among], new]) if keys else self._vectors[among]
        other._kinds = row_kinds(other._vectors)
        return other

    def score(
        self, users: Sequence[str], histories: Sequence[Places], candidates: Places | None = None
    ) -> NDArray[np.float64]:
        """Compare candidates with histories; see `Baseline`."""
        profiles = self.history_vectors(histories)
        if candidates is None:
            scores = profiles @ self._vectors.T
        else:
            scores = np.einsum("ud,ucd->uc", profiles, self._vectors[candidates])
        if self._how.similarity == "euclidean":
            squares = (self._vectors**2).sum(axis=1)
            of_items = squares[None] if candidates is None else squares[candidates]
            distances = (profiles**2).sum(axis=1)[:, None] + of_items - 2 * scores
            known = np.array([len(history) > 0 for history in histories])[:, None]
            scores = np.where(known, 1 / (1 + np.sqrt(np.maximum(distances, 0.0))), 0.0)
        return share_ties(scores, self._kinds, candidates)

    def item_vectors(self) -> NDArray[np.float64] | None:
        """Give the vectors that are compared; see `Baseline`."""
        return None if self._how.similarity == "euclidean" else self._vectors

    def history_vectors(self, histories: Sequence[Places]) -> NDArray[np.float64]:
        """Average the vectors of the history by age; see `Baseline`."""
        weights = history_rows(histories, len(self._vectors), DECAYS[self._how.decay])
        totals = weights.sum(axis=1)[:, None]
        profiles = np.asarray(weights @ self._vectors) / np.where(totals > 0, totals, 1.0)
        return normalized(profiles) if self._how.similarity == "cosine" else profiles

    def save(self, folder: Path) -> None:
        """Write what was learnt, and what encodes new items; see `Baseline`."""
        super().save(folder)
        self._encoder.save(folder / _ENCODER)
        self._reducer.save(folder / _REDUCER)

    def restore(self, folder: Path) -> None:
        """Read what `save` wrote; see `Baseline`."""
        super().restore(folder)
        self._encoder.restore(folder / _ENCODER)
        self._reducer.restore(folder / _REDUCER)

    def _compared(self) -> LLMSeqSimSettings:
        settings: LLMSeqSimSettings = self.settings
        return settings

    def _made(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Turn an encoder's vectors into those that are compared."""
        reduced = self._reducer(vectors).astype(np.float64)
        return normalized(reduced) if self._how.similarity == "cosine" else reduced


_ENCODER: Final = "encoder"
_REDUCER: Final = "reducer"


def normalized(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give rows length 1, but those of 0."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    made: NDArray[np.float64] = rows / np.where(lengths > 0, lengths, 1.0)
    return made


class EmbeddingsSettings(Section):
    """Which model embeds."""

    model: str | None = None
    """Folder, hub id or known name (`minilm`) of a sentence-transformers model."""

    @property
    def encoder(self) -> str:
        """The encoder's name."""
        return spell("encoder", {"kind": "sentence", "model": self.model}, ENCODERS)

    def content(self) -> Any:
        """Say what the encoder is; see `trsr.registry.identity`."""
        return identity("encoder", self.encoder, ENCODERS) if self.model else None


class Embeddings(LLMSeqSim):
    """LLMSeqSim by a sentence encoder, with all items of the history alike.

    Without a model, `ConfigError` is raised.
    """

    label = "Embedding similarity"
    description = "Items whose texts a language model places near those of the history."
    Settings = EmbeddingsSettings

    def _compared(self) -> LLMSeqSimSettings:
        if not self.settings.model:
            message = (
                "the baseline `embeddings` needs a model: name it as {kind: embeddings, model: ...}, the "
                "folder or the hub id of a sentence-transformers model, or leave the baseline out"
            )
            raise ConfigError(message)
        return LLMSeqSimSettings(encoder=self.settings.encoder, decay="none")
