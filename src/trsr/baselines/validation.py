"""What is chosen by validation users: the epoch of a network, the threshold of a hybrid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trsr.baselines.base import Places, TrainingData
from trsr.evaluation.metrics import NDCG, expected_metrics

Score = Callable[[Sequence[Places], Places], NDArray[np.float64]]
"""Histories and each user's candidates to scores, ``(n_users, n_candidates)``."""

_OTHERS: Final = 20


class Validation:
    """Mean NDCG@10 of each validation target, half among its candidates, half among other users' targets.

    Against uniform candidates alone a network looks best as soon as it knows what is popular, and training
    would end before it tells popular items apart. Targets of others are as popular as targets are. Of the
    data nothing but the validation users is used.

    Attributes
    ----------
    histories
        What the validation users took before their targets.
    offered
        All items that are to be scored for each, ``(n_users, n_offered)``.
    """

    def __init__(self, data: TrainingData) -> None:
        self.histories = data.valid_histories
        self.offered = self._candidates = data.valid_candidates
        self._columns = data.valid_targets
        n_users = len(self.histories)
        if n_users:
            self._targets = np.take_along_axis(self._candidates, self._columns[:, None], axis=1)
            following = np.arange(n_users)[:, None] + np.arange(1, min(_OTHERS, n_users - 1) + 1)
            self._others = self._targets[following % n_users, 0]
            self._taken = np.stack(
                [np.isin(row, history) for row, history in zip(self._others, self.histories, strict=True)]
            )
            self.offered = np.concatenate([self._candidates, self._others], axis=1)

    def __call__(self, score: Score) -> float:
        """Measure a system; NaN without validation users."""
        return self.measure(score(self.histories, self.offered)) if self.histories else float("nan")

    def measure(self, scores: NDArray[np.float64]) -> float:
        """Measure scores of what is `offered`."""
        own = np.take_along_axis(scores, self._columns[:, None], axis=1)
        n_candidates = self._candidates.shape[1]
        among_candidates, among_others = scores[:, :n_candidates], scores[:, n_candidates:]
        # What the user took, or the target itself, is no negative.
        among_others = np.where(self._taken | (self._others == self._targets), -np.inf, among_others)
        return 0.5 * (_ndcg(among_candidates, own, itself=1) + _ndcg(among_others, own, itself=0))


_CHOSEN_BY: Final = NDCG(k=10)


def _ndcg(scores: NDArray[np.float64], own: NDArray[np.float64], itself: int) -> float:
    """Mean NDCG@10 of targets with score `own`; `itself` of the tied scores is the target's own."""
    above, tied = (scores > own).sum(axis=1), (scores == own).sum(axis=1) - itself
    return float(expected_metrics(above, tied, scores.shape[1] - itself, [_CHOSEN_BY])["NDCG@10"].mean())
