"""The systems that p(yes) is joined with: trained together, kept together, served together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.artifacts import RunFolder
from trsr.baselines.base import Baseline, Places, ReadsText, Saved, TrainingData, training_data
from trsr.baselines.registry import baseline_class, open_baseline, score_places
from trsr.config import Config
from trsr.config.evaluation import BaselineName
from trsr.data.prepare import load
from trsr.fusion.features import LANGUAGE_MODEL, Evidence
from trsr.fusion.fusion import Fusion
from trsr.registry import path_name


class Companions:
    """Trained systems, and how often training saw each item of the catalogue, ``(n_items,)``."""

    def __init__(self, systems: Mapping[BaselineName, Baseline], counts: NDArray[np.int64]) -> None:
        self._systems = dict(systems)
        self._counts = counts

    @classmethod
    def fit(cls, names: Sequence[BaselineName], data: TrainingData, seed: int) -> Companions:
        """Train every system; the seed is that of what they draw."""
        systems = {name: open_baseline(name, seed) for name in names}
        for system in systems.values():
            system.fit(data)
        return cls(systems, data.counts)

    def save(self, folder: Path) -> None:
        """Write the systems that can be, one folder each; the others are quicker learnt again than read."""
        for name, system in self._systems.items():
            if isinstance(system, Saved):
                system.save(folder / path_name(name))

    @classmethod
    def load(cls, folder: Path, names: Sequence[BaselineName], data: TrainingData, seed: int) -> Companions:
        """Read the systems that `save` wrote, and let the others learn again.

        Raises `ArtifactError` when one is missing or damaged.
        """
        classes = {name: baseline_class(name) for name in names}
        learnt = cls.fit([name for name in names if not issubclass(classes[name], Saved)], data, seed)
        for name, made in classes.items():
            if issubclass(made, Saved):
                learnt._systems[name] = made.load(folder / path_name(name))
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
        """Gather every system's scores, the language model's first.

        Parameters
        ----------
        histories
            What users took before, oldest first, as places in the catalogue and, behind it, in `new_items`.
        candidates
            Places in the same way, ``(n_users, n_candidates)``.
        p_yes
            What the language model says of them, of the same shape.
        drawn_by_popularity
            Whether the candidates were drawn in proportion to popularity.
        new_items
            Text fields of items that the catalogue doesn't have. Systems that know behaviour alone pass
            them over.
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


WEIGHTS: Final = "fusion.json"
"""File in the fusion folder: the learnt weights and their calibration."""


class KeptFusion:
    """Learnt weights and the trained companions that they belong to.

    `drawn_by_popularity` says whether candidates are to be taken as the run's were drawn: in proportion to
    popularity, or evenly.
    """

    def __init__(self, fusion: Fusion, companions: Companions, drawn_by_popularity: bool) -> None:
        self._drawn_by_popularity = drawn_by_popularity
        self._fusion = fusion
        self._companions = companions

    @classmethod
    def load(cls, config: Config, folder: RunFolder) -> KeptFusion:
        """Read what the stage ``fuse`` wrote; raises `ArtifactError` where it is missing or damaged."""
        fusion = Fusion.load(folder.fusion / WEIGHTS)
        names = [name for name in fusion.systems if name != LANGUAGE_MODEL]
        data = training_data(load(folder), config.items.fields)
        companions = Companions.load(folder.fusion, names, data, config.training_seed)
        return cls(fusion, companions, config.candidates.sampler == "popularity")

    def score(
        self, history: Places, candidates: Places, p_yes: NDArray[np.float64], new_items: pl.DataFrame
    ) -> NDArray[np.float64]:
        """Return p(next item) of one user's candidates; see `Companions.evidence`, less its first axis."""
        evidence = self._companions.evidence(
            [""], [history], candidates[None], p_yes[None], self._drawn_by_popularity, new_items
        )
        scores: NDArray[np.float64] = self._fusion.score(evidence)[0]
        return scores
