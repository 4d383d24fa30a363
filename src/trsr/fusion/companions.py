"""The systems whose scores are joined with p(yes), trained together and kept together."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.baselines.baseline import Baseline, Places, ReadsText
from trsr.baselines.score import SEQUENTIAL, open_baseline, score_places
from trsr.baselines.training_data import TrainingData
from trsr.config.experiments import BaselineName
from trsr.fusion.evidence import LANGUAGE_MODEL, Evidence


class Companions:
    """Trained systems, and how often training saw each item.

    Parameters
    ----------
    systems
        Trained ones by their names.
    counts
        How often training saw each item of the catalogue, ``(n_items,)``.
    """

    def __init__(self, systems: Mapping[BaselineName, Baseline], counts: NDArray[np.int64]) -> None:
        self._systems = dict(systems)
        self._counts = counts

    @classmethod
    def fit(
        cls, names: Sequence[BaselineName], data: TrainingData, seed: int, embedding_model: str | None = None
    ) -> Companions:
        """Train every system.

        Parameters
        ----------
        names
            Which ones.
        data
            What they learn from.
        seed
            Seed of what they draw.
        embedding_model
            Folder or hub id of the model of `embeddings`; the others don't need it.
        """
        systems = {name: open_baseline(name, seed, embedding_model) for name in names}
        for system in systems.values():
            system.fit(data)
        return cls(systems, data.counts)

    def save(self, folder: Path) -> None:
        """Write the neural systems, one folder each; the others are quicker learnt again than read."""
        for name in self._systems.keys() & SEQUENTIAL:
            self._systems[name].save(folder / name)  # type: ignore[attr-defined]

    @classmethod
    def load(
        cls,
        folder: Path,
        names: Sequence[BaselineName],
        data: TrainingData,
        seed: int,
        embedding_model: str | None = None,
    ) -> Companions:
        """Read the neural systems that `save` wrote, and let the others learn again.

        Raises
        ------
        ArtifactError
            When a neural system is missing or damaged.
        """
        learnt = cls.fit([name for name in names if name not in SEQUENTIAL], data, seed, embedding_model)
        for name in names:
            if name in SEQUENTIAL:
                module = importlib.import_module("trsr.baselines.sequential")
                learnt._systems[name] = module.load_sequential(folder / name)
        return learnt

    def evidence(
        self,
        users: Sequence[str],
        histories: Sequence[Places],
        candidates: Places,
        p_yes: NDArray[np.float64],
        drawn_by_popularity: bool,
        new_items: pl.DataFrame | None = None,
    ) -> Evidence:
        """Gather every system's scores.

        Parameters
        ----------
        users
            Their ids.
        histories
            What they took before, oldest first, as places in the catalogue and, behind it, in `new_items`.
        candidates
            Places in the same way, ``(n_users, n_candidates)``.
        p_yes
            What the language model says of them, of the same shape.
        drawn_by_popularity
            Whether the candidates were drawn in proportion to popularity.
        new_items
            Text fields of items that the catalogue doesn't have. Systems that know behaviour alone pass
            them over.

        Returns
        -------
        Evidence
            The language model first.
        """
        size = len(self._counts)
        unknown = candidates >= size
        counts = np.where(unknown, 0, self._counts[np.where(unknown, 0, candidates)])
        known_histories = [history[history < size] for history in histories]
        known_candidates = np.where(unknown, 0, candidates).astype(np.int32)
        scores = {LANGUAGE_MODEL: p_yes}
        for name, system in self._systems.items():
            if new_items is None or new_items.is_empty():
                scores[name] = score_places(system, users, histories, candidates)
            elif isinstance(system, ReadsText):
                scores[name] = score_places(system.with_items(new_items), users, histories, candidates)
            else:
                scores[name] = score_places(system, users, known_histories, known_candidates)
        return Evidence(scores, counts, np.full(len(candidates), drawn_by_popularity))
