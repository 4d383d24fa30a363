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
from trsr.baselines.profiles import history_rows
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
        self._vectors = np.empty((0, 0))

    def fit(self, data: TrainingData) -> None:
        """Embed the catalogue; see `Baseline`.

        Raises
        ------
        ModelError
            When sentence-transformers is not installed, or the model can't be loaded.
        """
        self._fields = data.fields
        self._vectors = self._embed(data.items)

    def with_items(self, items: pl.DataFrame) -> Embeddings:
        """Make a system that knows more items; see `ReadsText`."""
        longer = copy(self)
        longer._vectors = np.concatenate([self._vectors, self._embed(items)])
        return longer

    def score(
        self, users: Sequence[str], histories: Sequence[Places], candidates: Places | None = None
    ) -> NDArray[np.float64]:
        """Compare candidates with histories; see `Baseline`."""
        profiles = np.asarray(history_rows(histories, len(self._vectors)) @ self._vectors)
        lengths = np.linalg.norm(profiles, axis=1, keepdims=True)
        profiles = profiles / np.where(lengths > 0, lengths, 1.0)
        if candidates is None:
            table: NDArray[np.float64] = profiles @ self._vectors.T
            return table
        scored: NDArray[np.float64] = np.einsum("ud,ucd->uc", profiles, self._vectors[candidates])
        return scored

    def _embed(self, items: pl.DataFrame) -> NDArray[np.float64]:
        try:
            library = importlib.import_module("sentence_transformers")
        except ImportError as error:
            message = (
                "the baseline `embeddings` needs sentence-transformers: pip install 'trsr[embeddings]', or "
                "leave the baseline out"
            )
            raise ModelError(message) from error
        try:
            model = library.SentenceTransformer(self._model)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            message = (
                f"{self._model}: not a sentence-transformers model ({reason}); give its folder or hub id"
            )
            raise ModelError(message) from error
        texts = item_texts(items, self._fields)
        vectors = model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float64)
