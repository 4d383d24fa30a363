"""Systems that compare texts: TF-IDF, BM25, sentence embeddings."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from trsr.baselines.base import (
    Places,
    ReadsText,
    TrainingData,
    history_rows,
    log_likeness,
    products,
    row_kinds,
    share_ties,
)
from trsr.config.section import Section
from trsr.errors import ConfigError, ModelError
from trsr.prompts.words import words
from trsr.records import ITEM

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import CountVectorizer


def item_texts(items: pl.DataFrame, fields: Sequence[str] = ()) -> list[str]:
    """Join the text fields of every item with a space, in the order of `fields`; missing ones are left out.

    Without `fields` all are joined.

    Examples
    --------
    >>> item_texts(pl.DataFrame({"item_id": ["a"], "title": ["Hammer"], "brand": [None]}))
    ['Hammer']
    """
    names = tuple(fields) or tuple(name for name in items.columns if name != ITEM)
    return items.select(pl.concat_str(names, separator=" ", ignore_nulls=True)).to_series().to_list()


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


class TextSimilarity(CountsWords):
    """Cosine between the TF-IDF vector of the candidate and the sum of those of the history."""

    label = "TF-IDF similarity"
    description = "Items whose texts share rare words with the texts of the history."
    learnt = (*CountsWords.learnt, "_idf", "_vectors")
    utilities = staticmethod(log_likeness)

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._idf = np.empty(0)
        self._vectors = sparse.csr_array((0, 0))

    def fit(self, data: TrainingData) -> None:
        """Learn the words and their weights from the catalogue; see `Baseline`."""
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
        taken = history_rows(histories, self._vectors.shape[0])
        return products(_normalized(sparse.csr_array(taken @ self._vectors)), self._vectors, candidates)

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
        scores = products(sparse.csr_array(taken @ self._words), self._weights, candidates)
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


_ENCODER: Final = "encoder"


class EmbeddingsSettings(Section):
    """Which model embeds."""

    model: str | None = None
    """Folder, hub id or known name (`minilm`) of a sentence-transformers model."""


class Embeddings(ReadsText):
    """Cosine between the candidate's embedding and the sum of those of the history.

    Without a model, `ConfigError` is raised.
    """

    label = "Embedding similarity"
    description = "Items whose texts a language model places near those of the history."
    Settings = EmbeddingsSettings
    learnt = ("_fields", "_texts", "_vectors", "_kinds")

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        if not self.settings.model:
            message = (
                "the baseline `embeddings` needs a model: name it as {kind: embeddings, model: ...}, the "
                "folder or the hub id of a sentence-transformers model, or leave the baseline out"
            )
            raise ConfigError(message)
        self._model: str = self.settings.model
        self._fields: tuple[str, ...] = ()
        self._texts: list[str] = []
        self._vectors = np.empty((0, 0))
        self._kinds = np.empty(0, np.int64)

    def fit(self, data: TrainingData) -> None:
        """Embed the catalogue; see `Baseline`.

        Raises `ModelError` when sentence-transformers is not installed, or the model can't be loaded.
        """
        self._fields = data.fields
        self._texts = item_texts(data.items, data.fields)
        self._vectors = self._embed(self._texts)
        self._kinds = row_kinds(self._vectors)

    def with_items(self, items: pl.DataFrame, among: Places) -> Embeddings:
        """Make a system that knows other items; see `ReadsText`."""
        other = copy(self)
        new = item_texts(items, self._fields)
        other._texts = [*(self._texts[place] for place in among), *new]
        other._vectors = np.concatenate([self._vectors[among], self._embed(new)])
        other._kinds = row_kinds(other._vectors)
        return other

    def score(
        self, users: Sequence[str], histories: Sequence[Places], candidates: Places | None = None
    ) -> NDArray[np.float64]:
        """Compare candidates with histories; see `Baseline`."""
        profiles = np.asarray(history_rows(histories, len(self._vectors)) @ self._vectors)
        lengths = np.linalg.norm(profiles, axis=1, keepdims=True)
        profiles = profiles / np.where(lengths > 0, lengths, 1.0)
        if candidates is None:
            scores = profiles @ self._vectors.T
        else:
            scores = np.einsum("ud,ucd->uc", profiles, self._vectors[candidates])
        return share_ties(scores, self._kinds, candidates)

    def save(self, folder: Path) -> None:
        """Write what was learnt, and the model where it lies in a folder of this machine; see `Baseline`."""
        super().save(folder)
        if Path(self._model).is_dir():
            shutil.copytree(self._model, folder / _ENCODER, dirs_exist_ok=True)

    def restore(self, folder: Path) -> None:
        """Read what `save` wrote; see `Baseline`."""
        super().restore(folder)
        if (folder / _ENCODER).exists():
            self._model = str(folder / _ENCODER)

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Embed every text once: in another batch the same text is rounded differently, and doesn't tie."""
        known = dict(zip(self._texts, self._vectors, strict=False))
        unknown = list(dict.fromkeys(text for text in texts if text not in known))
        if unknown:
            known |= zip(unknown, self._encode(unknown), strict=True)
        return np.array([known[text] for text in texts])

    def _encode(self, texts: Sequence[str]) -> NDArray[np.float64]:
        try:
            library = importlib.import_module("sentence_transformers")
        except ImportError as error:
            message = (
                "the baseline `embeddings` needs sentence-transformers: pip install 'trsr[embeddings]', or "
                "leave the baseline out"
            )
            raise ModelError(message) from error
        # torch is loaded only when a model is asked for.
        load = importlib.import_module("trsr.hf.loading").load_sentence_encoder
        model = load(library.SentenceTransformer, self._model)
        vectors = model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
        made = np.asarray(vectors, dtype=np.float64)
        if not np.isfinite(made).all():
            message = f"{self._model}: gives embeddings that are NaN or infinite; take another model"
            raise ModelError(message)
        return made
