"""The fused ranker of a finished run, ready to score one user at a time."""

from __future__ import annotations

from typing import Final, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.artifacts import RunFolder
from trsr.baselines.baseline import Places
from trsr.baselines.training_data import training_data
from trsr.config import Config
from trsr.config.experiments import BaselineName
from trsr.data.prepare import load
from trsr.fusion.companions import Companions
from trsr.fusion.fusion import Fusion

WEIGHTS: Final = "fusion.json"
"""File in the fusion folder: the learnt weights and their calibration."""


class KeptFusion:
    """Learnt weights and the trained companions that they belong to.

    Parameters
    ----------
    fusion
        The weights.
    companions
        The systems.
    drawn_by_popularity
        Whether candidates are to be taken as the run's were drawn: in proportion to popularity, or evenly.
    """

    def __init__(self, fusion: Fusion, companions: Companions, drawn_by_popularity: bool) -> None:
        self._drawn_by_popularity = drawn_by_popularity
        self._fusion = fusion
        self._companions = companions

    @classmethod
    def load(cls, config: Config, folder: RunFolder) -> KeptFusion:
        """Read what the stage ``fuse`` wrote.

        Raises
        ------
        ArtifactError
            When an artifact is missing or damaged.
        """
        fusion = Fusion.load(folder.fusion / WEIGHTS)
        names = [name for name in get_args(BaselineName) if name in fusion.systems]
        data = training_data(load(folder), config.items.fields)
        seed, model = config.training_seed, config.comparison.embedding_model
        companions = Companions.load(folder.fusion, names, data, seed, model)
        return cls(fusion, companions, config.candidates.sampler == "popularity")

    def score(
        self, history: Places, candidates: Places, p_yes: NDArray[np.float64], new_items: pl.DataFrame
    ) -> NDArray[np.float64]:
        """Return p(next item) of one user's candidates; see `Companions.evidence`.

        Parameters
        ----------
        history
            ``(n_history,)``.
        candidates
            ``(n_candidates,)``.
        p_yes
            ``(n_candidates,)``.
        new_items
            Text fields of items that the catalogue doesn't have.
        """
        evidence = self._companions.evidence(
            [""], [history], candidates[None], p_yes[None], self._drawn_by_popularity, new_items
        )
        scores: NDArray[np.float64] = self._fusion.score(evidence)[0]
        return scores
