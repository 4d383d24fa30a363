"""What a baseline is."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray


class Baseline(Protocol):
    """Scores candidates from histories, item texts and training data, never from a target to be predicted."""

    def score(self, items: pl.DataFrame, histories: pl.DataFrame, pairs: pl.DataFrame) -> NDArray[np.float64]:
        """Score pairs of a user and a candidate; higher is better.

        Parameters
        ----------
        items
            The catalogue.
        histories
            `USER`, `SPLIT`, `HISTORY` and `TARGET`; targets of training users only may be looked at.
        pairs
            `USER` and `ITEM`, users in one piece.

        Returns
        -------
        numpy.ndarray
            In the order of the pairs, ``(n_pairs,)``.
        """
        ...
