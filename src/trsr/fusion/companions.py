"""The systems that p(yes) is joined with: trained together, kept together, served together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.baselines.base import Baseline, Learnt, ReadsText, open_baseline, score_places
from trsr.baselines.training_data import Places, TrainingData
from trsr.config import Config
from trsr.config.evaluation import BaselineName
from trsr.config.evaluation import Fusion as FusionSettings
from trsr.fusion.features import LANGUAGE_MODEL, Evidence
from trsr.fusion.fusion import Fusion
from trsr.fusion.retrieval import CatalogueFusion, Retriever, times
from trsr.registry import path_name


class Companions(Learnt):
    """Trained systems, and how often training saw each item of the catalogue, ``(n_items,)``."""

    learnt = ("_counts",)

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
        """Write every system as it was fitted, one folder each, and the counts beside them."""
        super().save(folder)
        for name, system in self._systems.items():
            system.save(folder / path_name(name))

    @classmethod
    def load(cls, folder: Path, names: Sequence[BaselineName], seed: int) -> Companions:
        """Read the systems that `save` wrote; nothing is learnt again.

        Raises `ArtifactError` when one is missing or damaged.
        """
        systems = {name: open_baseline(name, seed) for name in names}
        for name, system in systems.items():
            system.restore(folder / path_name(name))
        loaded = cls(systems, np.empty(0, np.int64))
        loaded.restore(folder)
        return loaded

    def retriever(self, config: FusionSettings) -> Retriever:
        """Make them propose items of the catalogue; raises `ConfigError` where there can be no index."""
        names = config.retrievers or tuple(self._systems)
        make = Retriever if config.index == "exact" else Retriever.indexed
        return make(self._systems, self._counts, names)

    def catalogue(self, folder: Path) -> CatalogueFusion | None:
        """Read the fused ranker of the catalogue beside them; None where there is none."""
        return CatalogueFusion.load(folder, self._systems, self._counts)

    def evidence(
        self,
        users: Sequence[str],
        histories: Sequence[Places],
        candidates: Places,
        p_yes: NDArray[np.float64],
        drawn_by_popularity: bool,
        new_items: pl.DataFrame | None = None,
        *,
        retrieved: bool = False,
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
        retrieved
            Whether the candidates are of the whole catalogue, the history among them, rather than drawn.
        """
        size = len(self._counts)
        unknown = candidates >= size
        counts = np.where(unknown, 0, self._counts[np.where(unknown, 0, candidates)])
        known_histories = [history[history < size] for history in histories]
        known_candidates = np.where(unknown, 0, candidates).astype(np.int32)
        # Of a catalogue, the items that are asked about are enough.
        asked = np.unique(np.concatenate([*histories, candidates.ravel()]))
        among = asked[asked < size]
        scores = {LANGUAGE_MODEL: p_yes}
        for name, system in self._systems.items():
            if new_items is None or new_items.is_empty():
                scores[name] = score_places(system, users, histories, candidates)
            elif isinstance(system, ReadsText):
                near = [_nearer(places, among, size) for places in (*histories, candidates)]
                scores[name] = score_places(system.with_items(new_items, among), users, near[:-1], near[-1])
            else:
                scores[name] = score_places(system, users, known_histories, known_candidates)
        repeats = [times(history, row) for history, row in zip(histories, candidates, strict=True)]
        drawn = np.full(len(candidates), drawn_by_popularity)
        return Evidence(scores, counts, drawn, np.stack(repeats) if retrieved else None)


def _nearer(places: Places, among: Places, size: int) -> Places:
    """Turn places in the catalogue and behind it into places in `among` and behind it."""
    moved = np.where(places < size, np.searchsorted(among, places), places - size + len(among))
    return moved.astype(np.int32)


WEIGHTS: Final = "fusion.json"
"""File in the fusion folder: the learnt weights and their calibration."""


class KeptFusion:
    """Learnt weights and the trained companions that they belong to.

    `drawn_by_popularity` says whether candidates are to be taken as the run's were drawn: in proportion to
    popularity, or evenly.
    """

    def __init__(
        self,
        fusion: Fusion,
        companions: Companions,
        drawn_by_popularity: bool,
        catalogue: CatalogueFusion | None = None,
    ) -> None:
        self._drawn_by_popularity = drawn_by_popularity
        self._fusion = fusion
        self._companions = companions
        self.catalogue = catalogue
        """The fused ranker of the whole catalogue, where there is one."""

    @property
    def retriever(self) -> Retriever:
        """Who proposes items of the catalogue: those of its ranker, else every companion."""
        if self.catalogue is not None:
            return self.catalogue.retriever
        return self._companions.retriever(FusionSettings())

    @classmethod
    def load(cls, config: Config, folder: Path) -> KeptFusion:
        """Read what the stage ``fuse`` wrote; raises `ArtifactError` where it is missing or damaged."""
        fusion = Fusion.load(folder / WEIGHTS)
        names = [name for name in fusion.systems if name != LANGUAGE_MODEL]
        companions = Companions.load(folder, names, config.training_seed)
        by_popularity = config.candidates.sampler == "popularity"
        return cls(fusion, companions, by_popularity, companions.catalogue(folder))

    def score(
        self,
        histories: Sequence[Places],
        candidates: Places,
        p_yes: NDArray[np.float64],
        new_items: pl.DataFrame,
    ) -> NDArray[np.float64]:
        """Return p(next item) of users' candidates; see `Companions.evidence`."""
        return self._fusion.score(self._evidence(histories, candidates, p_yes, new_items))

    def explain(
        self,
        histories: Sequence[Places],
        candidates: Places,
        p_yes: NDArray[np.float64],
        new_items: pl.DataFrame,
        *,
        catalogue: bool = False,
    ) -> tuple[Mapping[str, NDArray[np.float64]], Mapping[str, NDArray[np.float64]], NDArray[np.float64]]:
        """Return what every system says, what every column adds to the sum, and p(next item).

        With `catalogue` by the fused ranker of the whole catalogue, where there is one.
        """
        whole = self.catalogue.full if catalogue and self.catalogue is not None else None
        evidence = self._evidence(histories, candidates, p_yes, new_items, retrieved=whole is not None)
        return said_of(whole or self._fusion, evidence)

    def _evidence(
        self,
        histories: Sequence[Places],
        candidates: Places,
        p_yes: NDArray[np.float64],
        new_items: pl.DataFrame,
        *,
        retrieved: bool = False,
    ) -> Evidence:
        users = [""] * len(histories)
        drawn = self._drawn_by_popularity and not retrieved
        return self._companions.evidence(
            users, histories, candidates, p_yes, drawn, new_items, retrieved=retrieved
        )


def said_of(
    fusion: Fusion, evidence: Evidence
) -> tuple[Mapping[str, NDArray[np.float64]], Mapping[str, NDArray[np.float64]], NDArray[np.float64]]:
    """Return what every system says, what every column adds to the sum, and the score that they make."""
    return evidence.scores, fusion.terms(evidence), fusion.score(evidence)
