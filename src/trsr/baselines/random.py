"""Scores by chance: what every metric gives for knowing nothing."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.data.user_random import uniforms, user_keys
from trsr.records import ITEM, USER


class Random:
    """A random number per pair; a user's numbers depend on no other user.

    Parameters
    ----------
    seed
        The run's seed.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def score(self, items: pl.DataFrame, histories: pl.DataFrame, pairs: pl.DataFrame) -> NDArray[np.float64]:
        """Draw a number of [0, 1) per pair; see `Baseline`."""
        names = (f"{user}\x1f{item}" for user, item in pairs.select(USER, ITEM).iter_rows())
        return uniforms(user_keys(names, self._seed, "random baseline"), 1)[:, 0]
