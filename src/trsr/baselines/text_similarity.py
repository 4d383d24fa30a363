"""Scores by likeness of words: the candidate's text against the texts of the whole history."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from trsr.baselines.baseline import Places
from trsr.baselines.item_text import item_texts
from trsr.baselines.profiles import history_rows, products
from trsr.baselines.training_data import TrainingData
from trsr.prompts.words import words


class TextSimilarity:
    """Cosine between the TF-IDF vector of the candidate and the sum of those of the history."""

    def __init__(self) -> None:
        # Damped counts and English stop words are worth .02 to .04 Recall@3 on titles of shops and videos.
        self._vectorizer = TfidfVectorizer(
            tokenizer=words, token_pattern=None, sublinear_tf=True, stop_words="english", dtype=np.float64
        )
        self._fields: tuple[str, ...] = ()
        self._vectors = sparse.csr_array((0, 0))

    def fit(self, data: TrainingData) -> None:
        """Learn the words and their weights from the catalogue; see `Baseline`."""
        self._fields = data.fields
        texts = item_texts(data.items, data.fields)
        analyze = self._vectorizer.build_analyzer()
        # A catalogue without a word ties everything instead of failing.
        self._vectorizer.fit(texts if any(map(analyze, texts)) else ["wordless"])
        self._vectors = sparse.csr_array(self._vectorizer.transform(texts))

    def with_items(self, items: pl.DataFrame) -> TextSimilarity:
        """Make a system that knows more items; see `ReadsText`."""
        longer = copy(self)
        new = self._vectorizer.transform(item_texts(items, self._fields))
        longer._vectors = sparse.csr_array(sparse.vstack([self._vectors, new]))
        return longer

    def score(
        self, users: Sequence[str], histories: Sequence[Places], candidates: Places | None = None
    ) -> NDArray[np.float64]:
        """Compare candidates with histories; see `Baseline`."""
        taken = history_rows(histories, self._vectors.shape[0])
        profiles = sparse.csr_array(normalize(taken @ self._vectors))
        return products(profiles, self._vectors, candidates)
