"""Scores by BM25: the words of the history are the query, the candidate's text is the document."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer

from trsr.baselines.baseline import Places
from trsr.baselines.item_text import item_texts
from trsr.baselines.profiles import history_rows, products
from trsr.baselines.training_data import TrainingData
from trsr.prompts.words import words

_K1: Final = 1.2
_B: Final = 0.75


class Bm25:
    """Okapi BM25 with the usual ``k1 = 1.2`` and ``b = 0.75``, summed over the history's words.

    A word counts in the query as often as items of the history have it. Scores are divided by the
    length of the history. Source: Robertson and Zaragoza, The Probabilistic Relevance Framework:
    BM25 and Beyond, 2009, with Lucene's idf, which is never negative.
    """

    def __init__(self) -> None:
        self._vectorizer = CountVectorizer(
            tokenizer=words, token_pattern=None, stop_words="english", dtype=np.float64
        )
        self._fields: tuple[str, ...] = ()
        self._idf = np.empty(0)
        self._mean_length = 1.0
        self._words = sparse.csr_array((0, 0))
        self._weights = sparse.csr_array((0, 0))

    def fit(self, data: TrainingData) -> None:
        """Learn the words, their weights and the mean length from the catalogue; see `Baseline`."""
        self._fields = data.fields
        texts = item_texts(data.items, data.fields)
        analyze = self._vectorizer.build_analyzer()
        # A catalogue without a word ties everything instead of failing.
        self._vectorizer.fit(texts if any(map(analyze, texts)) else ["wordless"])
        counts = sparse.csr_array(self._vectorizer.transform(texts))
        having = np.bincount(counts.indices, minlength=counts.shape[1])
        self._idf = np.log1p((len(texts) - having + 0.5) / (having + 0.5))
        self._mean_length = max(float(counts.sum()) / max(len(texts), 1), 1.0)
        self._words, self._weights = self._weigh(counts)

    def with_items(self, items: pl.DataFrame) -> Bm25:
        """Make a system that knows more items; see `ReadsText`."""
        longer = copy(self)
        new = self._vectorizer.transform(item_texts(items, self._fields))
        having, weights = self._weigh(sparse.csr_array(new))
        longer._words = sparse.csr_array(sparse.vstack([self._words, having]))
        longer._weights = sparse.csr_array(sparse.vstack([self._weights, weights]))
        return longer

    def score(
        self, users: Sequence[str], histories: Sequence[Places], candidates: Places | None = None
    ) -> NDArray[np.float64]:
        """Score candidates as answers to histories; see `Baseline`."""
        taken = history_rows(histories, self._words.shape[0])
        scores = products(sparse.csr_array(taken @ self._words), self._weights, candidates)
        lengths = np.array([max(len(history), 1) for history in histories], dtype=np.float64)
        return scores / lengths[:, None]

    def _weigh(self, counts: sparse.csr_array) -> tuple[sparse.csr_array, sparse.csr_array]:
        """Return which words each item has, and how much each of them counts for the item."""
        lengths = np.repeat(counts.sum(axis=1), np.diff(counts.indptr))
        damping = _K1 * (1 - _B + _B * lengths / self._mean_length)
        strength = self._idf[counts.indices] * counts.data * (_K1 + 1) / (counts.data + damping)
        form = {"shape": counts.shape}
        having = sparse.csr_array((np.ones_like(counts.data), counts.indices, counts.indptr), **form)
        return having, sparse.csr_array((strength, counts.indices, counts.indptr), **form)
