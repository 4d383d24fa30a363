"""What is chosen by validation users: the epoch of a network, the threshold of a hybrid, weights of a mix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trsr.baselines.training_data import NOTHING, Places, TrainingData
from trsr.evaluation.catalogue import place_in_catalogue
from trsr.evaluation.metrics import NDCG, expected_metrics, several_positives

Score = Callable[[Sequence[Places], Places | None], NDArray[np.float64]]
"""Histories and each user's candidates, None for the whole catalogue, to scores, one row a user."""

_OTHERS: Final = 20
_ROWS: Final = 4000
_CELLS: Final = 16_000_000
_ROWS_A_BLOCK: Final = 256


class Validation:
    """Mean NDCG@10 of each validation target, as the protocol ranks it.

    Among sampled candidates it is half of these, half of other users' targets: against uniform candidates
    alone a network looks best as soon as it knows what is popular, and training would end before it tells
    popular items apart. Targets of others are as popular as targets are. Where candidates are given, by a
    file or as impressions, it is that among them alone, of all that was clicked, or among uniform ones of
    users whom the file doesn't name: what is measured decides. In the whole catalogue, for the protocols that
    rank it, it is that of the target. Of catalogue and impressions it is that of 4,000 rows at most, evenly
    spaced. Of the data nothing but the validation users is used.

    Attributes
    ----------
    users, histories
        Who they are, and what they took before their targets.
    rows
        How many there are, in words.
    offered
        All items that are to be scored for each, ``(n_users, n_offered)``; None for the whole catalogue.
    """

    def __init__(self, data: TrainingData) -> None:
        self._whole, self._keeps_history = data.rule.whole_catalogue, data.rule.keeps_history
        taken, of_rows = np.arange(len(data.valid_histories)), self._whole or data.valid_positives is not None
        if of_rows:
            width = data.items.height if self._whole else data.valid_candidates.shape[1]
            most = max(1, min(_ROWS, _CELLS // max(1, width), len(taken)))
            taken = np.unique(np.linspace(0, len(taken) - 1, most).astype(np.int64)) if len(taken) else taken
        self.users = tuple(data.valid_users[row] for row in taken)
        self.histories = tuple(data.valid_histories[row] for row in taken)
        self.rows = f"{len(taken):,} validation {'rows' if of_rows else 'users'}"
        self._candidates, self._columns = data.valid_candidates[taken], data.valid_targets[taken]
        self.offered: Places | None = None if self._whole else np.maximum(self._candidates, 0)
        self._positives = self._clicked(data, taken) if data.given and not self._whole else None
        if not self.histories or self._positives is not None:
            return
        self._targets = np.take_along_axis(self._candidates, self._columns[:, None], axis=1)
        if not self._whole:
            n_users = len(self.histories)
            following = np.arange(n_users)[:, None] + np.arange(1, min(_OTHERS, n_users - 1) + 1)
            self._others = self._targets[following % n_users, 0]
            self._taken = np.stack(
                [np.isin(row, history) for row, history in zip(self._others, self.histories, strict=True)]
            )
            self.offered = np.concatenate([self._candidates, self._others], axis=1)

    def _clicked(self, data: TrainingData, taken: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Mark the positives among given candidates."""
        if data.valid_positives is not None:
            return data.valid_positives[taken]
        target: NDArray[np.bool_] = np.arange(self._candidates.shape[1]) == self._columns[:, None]
        return target

    def __call__(self, score: Score) -> float:
        """Measure a system; NaN without validation users."""
        if not self.histories:
            return float("nan")
        if not self._whole:
            return self.measure(score(self.histories, self.offered))
        blocks = [
            slice(start, start + _ROWS_A_BLOCK) for start in range(0, len(self.histories), _ROWS_A_BLOCK)
        ]
        figures = [self._in_catalogue(score(self.histories[rows], None), rows) for rows in blocks]
        return float(np.concatenate(figures).mean())

    def measure(self, scores: NDArray[np.float64]) -> float:
        """Measure scores of what is `offered`."""
        if self._whole:
            return float(self._in_catalogue(scores, slice(None)).mean())
        if self._positives is not None:
            shown = self._candidates != NOTHING
            _, found = several_positives(scores, self._positives, shown, [_CHOSEN_BY])
            return float(found[_CHOSEN_BY.name].mean())
        own = np.take_along_axis(scores, self._columns[:, None], axis=1)
        n_candidates = self._candidates.shape[1]
        among_candidates, among_others = scores[:, :n_candidates], scores[:, n_candidates:]
        # What the user took, or the target itself, is no negative.
        among_others = np.where(self._taken | (self._others == self._targets), -np.inf, among_others)
        return 0.5 * (_ndcg(among_candidates, own, itself=1) + _ndcg(among_others, own, itself=0))

    def _in_catalogue(self, scores: NDArray[np.float64], rows: slice) -> NDArray[np.float64]:
        histories = self.histories[rows]
        hidden = [history[:0] for history in histories] if self._keeps_history else histories
        ranks = place_in_catalogue(scores, self._targets[rows, 0], hidden)
        return expected_metrics(ranks.above, ranks.tied, ranks.others, [_CHOSEN_BY])["NDCG@10"]


_CHOSEN_BY: Final = NDCG(k=10)


def _ndcg(scores: NDArray[np.float64], own: NDArray[np.float64], itself: int) -> float:
    """Mean NDCG@10 of targets with score `own`; `itself` of the tied scores is the target's own."""
    above, tied = (scores > own).sum(axis=1), (scores == own).sum(axis=1) - itself
    return float(expected_metrics(above, tied, scores.shape[1] - itself, [_CHOSEN_BY])["NDCG@10"].mean())
