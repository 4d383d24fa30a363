"""What a baseline is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.baselines.training_data import TrainingData

Places = NDArray[np.int32]
"""Items as their places in the catalogue."""


class Baseline(Protocol):
    """Learns from training users and the catalogue, then scores items for any history.

    Nothing about the users who are measured reaches `fit`, except, for those who stop
    early, the validation users that `TrainingData` holds.
    """

    def fit(self, data: TrainingData) -> None:
        """Learn; called once, before `score`.

        Parameters
        ----------
        data
            Training histories, the catalogue, and validation users to stop by.
        """
        ...

    def score(
        self, users: Sequence[str], histories: Sequence[Places], candidates: Places | None = None
    ) -> NDArray[np.float64]:
        """Score candidates, or the whole catalogue; higher is better, no value is NaN.

        Parameters
        ----------
        users
            Ids; a system may draw chance from them and nothing else.
        histories
            What each user took before, oldest first, as places in the catalogue; may be empty.
        candidates
            Places of each user's candidates, ``(n_users, n_candidates)``; None for every item
            of the catalogue. A pair's score is the same either way and whatever other users
            are asked about (floats within 1e-5).

        Returns
        -------
        numpy.ndarray
            ``(n_users, n_candidates)`` or ``(n_users, n_items)``.
        """
        ...


@runtime_checkable
class ReadsText(Baseline, Protocol):
    """A baseline that compares texts alone, and so can score items that nobody has taken yet."""

    def with_items(self, items: pl.DataFrame) -> ReadsText:
        """Make a system that knows more items, with what was learnt from the catalogue.

        Parameters
        ----------
        items
            Text fields of the new items; their places follow those of the catalogue.
        """
        ...
