"""Scores by how often training users took the item."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trsr.baselines.baseline import Places
from trsr.baselines.training_data import TrainingData


class Popularity:
    """The item's count over training sequences."""

    def __init__(self) -> None:
        self._counts = np.empty(0, np.float64)

    def fit(self, data: TrainingData) -> None:
        """Count; see `Baseline`."""
        self._counts = data.counts.astype(np.float64)

    def score(
        self, users: Sequence[str], histories: Sequence[Places], candidates: Places | None = None
    ) -> NDArray[np.float64]:
        """Look the items' counts up; see `Baseline`."""
        if candidates is None:
            return np.tile(self._counts, (len(users), 1))
        return self._counts[candidates]
