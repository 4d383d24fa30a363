"""Scores by likeness of meaning: the candidate's sentence embedding against those of the history."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from copy import copy

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.baselines.baseline import Places
from trsr.baselines.item_text import item_texts
from trsr.baselines.profiles import history_rows, row_kinds, share_ties
from trsr.baselines.training_data import TrainingData
from trsr.errors import ConfigError, ModelError


class Embeddings:
    """Cosine between the candidate's embedding and the sum of those of the history.

    Parameters
    ----------
    model
        Folder or hub id of a sentence-transformers model.

    Raises
    ------
    ConfigError
        When there is no model.
    """

    def __init__(self, model: str | None) -> None:
        if not model:
            message = (
                "the baseline `embeddings` needs a model: set comparison.embedding_model to the folder or "
                "the hub id of a sentence-transformers model, or leave the baseline out"
            )
            raise ConfigError(message)
        self._model = model
        self._fields: tuple[str, ...] = ()
        self._texts: list[str] = []
        self._vectors = np.empty((0, 0))
        self._kinds = np.empty(0, np.int64)

    def fit(self, data: TrainingData) -> None:
        """Embed the catalogue; see `Baseline`.

        Raises
        ------
        ModelError
            When sentence-transformers is not installed, or the model can't be loaded.
        """
        self._fields = data.fields
        self._texts = item_texts(data.items, data.fields)
        self._vectors = self._embed(self._texts)
        self._kinds = row_kinds(self._vectors)

    def with_items(self, items: pl.DataFrame) -> Embeddings:
        """Make a system that knows more items; see `ReadsText`."""
        longer = copy(self)
        new = item_texts(items, self._fields)
        longer._texts = [*self._texts, *new]
        longer._vectors = np.concatenate([self._vectors, self._embed(new)])
        longer._kinds = row_kinds(longer._vectors)
        return longer

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
        load = importlib.import_module("trsr.models.loading").load_sentence_encoder
        model = load(library.SentenceTransformer, self._model)
        vectors = model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
        made = np.asarray(vectors, dtype=np.float64)
        if not np.isfinite(made).all():
            message = f"{self._model}: gives embeddings that are NaN or infinite; take another model"
            raise ModelError(message)
        return made
