"""Scores by chance: what every metric gives for knowing nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trsr.baselines.baseline import Places
from trsr.baselines.training_data import TrainingData
from trsr.data.user_random import uniforms, user_keys
from trsr.records import ITEM


class Random:
    """A random number per pair; it depends on the ids of user and item, and on no other row.

    Parameters
    ----------
    seed
        Another seed, other numbers.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._items = np.empty(0, np.uint64)

    def fit(self, data: TrainingData) -> None:
        """Hash the items' ids; see `Baseline`."""
        self._items = user_keys(data.items[ITEM], self._seed, "random baseline, items")

    def score(
        self, users: Sequence[str], histories: Sequence[Places], candidates: Places | None = None
    ) -> NDArray[np.float64]:
        """Draw a number of [0, 1) per pair; see `Baseline`."""
        rows = user_keys(users, self._seed, "random baseline, users")
        columns = self._items[None, :] if candidates is None else self._items[candidates]
        pairs = rows[:, None] ^ columns
        return uniforms(pairs.ravel(), 1)[:, 0].reshape(pairs.shape)
