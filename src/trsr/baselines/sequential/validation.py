"""The figure that stops training: where the targets of validation users stand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from trsr.baselines.baseline import Places
from trsr.baselines.training_data import TrainingData
from trsr.evaluation.metrics import expected_metrics

Score = Callable[[Sequence[Places], Places], NDArray[np.float64]]
"""Histories and each user's candidates to scores, ``(n_users, n_candidates)``."""

_OTHERS = 20


class Validation:
    """Mean NDCG@10 of each validation target, half among its candidates, half among other users' targets.

    Against uniform candidates alone a network looks best as soon as it knows what is popular, and training
    would end before it tells popular items apart. Targets of others are as popular as targets are.

    Parameters
    ----------
    data
        Its validation users are used, and nothing else.
    """

    def __init__(self, data: TrainingData) -> None:
        self._histories = data.valid_histories
        self._candidates = data.valid_candidates
        self._columns = data.valid_targets
        n_users = len(self._histories)
        if n_users:
            self._targets = np.take_along_axis(self._candidates, self._columns[:, None], axis=1)
            following = np.arange(n_users)[:, None] + np.arange(1, min(_OTHERS, n_users - 1) + 1)
            self._others = self._targets[following % n_users, 0]
            self._taken = np.stack(
                [np.isin(row, history) for row, history in zip(self._others, self._histories, strict=True)]
            )

    def __call__(self, score: Score) -> float:
        """Measure a network; NaN without validation users."""
        if not self._histories:
            return float("nan")
        offered = np.concatenate([self._candidates, self._others], axis=1)
        scores = score(self._histories, offered)
        own = np.take_along_axis(scores, self._columns[:, None], axis=1)
        n_candidates = self._candidates.shape[1]
        among_candidates, among_others = scores[:, :n_candidates], scores[:, n_candidates:]
        # What the user took, or the target itself, is no negative.
        among_others = np.where(self._taken | (self._others == self._targets), -np.inf, among_others)
        return 0.5 * (_ndcg(among_candidates, own, itself=1) + _ndcg(among_others, own, itself=0))


def _ndcg(scores: NDArray[np.float64], own: NDArray[np.float64], itself: int) -> float:
    """Mean NDCG@10 of targets with score `own`; `itself` of the tied scores is the target's own."""
    above, tied = (scores > own).sum(axis=1), (scores == own).sum(axis=1) - itself
    return float(expected_metrics(above, tied, [10])["NDCG@10"].mean())
