"""Scores by how often training users took the item."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.data.popularity import training_counts
from trsr.records import ITEM


class Popularity:
    """The item's count over histories and targets of training users."""

    def score(self, items: pl.DataFrame, histories: pl.DataFrame, pairs: pl.DataFrame) -> NDArray[np.float64]:
        """Look the item's count up; see `Baseline`."""
        return training_counts(histories, pairs[ITEM].to_list()).astype(np.float64)
