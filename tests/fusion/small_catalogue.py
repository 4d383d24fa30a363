"""A catalogue of topics in which people go on with theirs, and take things again or never do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trsr.baselines.base import Baseline
from trsr.baselines.training_data import Places, TrainingData

ITEMS, TOPICS = 60, 6


class Topics(Baseline):
    """Items of the topics of the history, those with a lower number first; empty histories tie everything."""

    learnt = ("_items",)

    def fit(self, data: TrainingData) -> None:
        self._items = np.arange(data.items.height)

    def score(
        self, users: Sequence[str], histories: Sequence[Places], candidates: Places | None = None
    ) -> NDArray[np.float64]:
        whole = np.zeros((len(users), ITEMS))
        for row, history in enumerate(histories):
            liked = np.bincount(history % TOPICS, minlength=TOPICS)
            whole[row] = liked[np.arange(ITEMS) % TOPICS] * (2 - np.arange(ITEMS) / ITEMS)
        return whole if candidates is None else np.take_along_axis(whole, candidates, axis=1)

    def item_vectors(self) -> NDArray[np.float64]:
        return np.eye(TOPICS)[np.arange(ITEMS) % TOPICS] * (2 - np.arange(ITEMS) / ITEMS)[:, None]

    def history_vectors(self, histories: Sequence[Places]) -> NDArray[np.float64]:
        return np.array([np.bincount(each % TOPICS, minlength=TOPICS) for each in histories], np.float64)


class Counts(Topics):
    """How often training saw an item, here the more the higher its number."""

    def score(
        self, users: Sequence[str], histories: Sequence[Places], candidates: Places | None = None
    ) -> NDArray[np.float64]:
        whole = np.tile(np.arange(ITEMS) // 10, (len(users), 1)).astype(np.float64)
        return whole if candidates is None else np.take_along_axis(whole, candidates, axis=1)


@dataclass(frozen=True)
class People:
    users: list[str]
    histories: list[Places]
    targets: Places


def people(number: int, repeating: float, seed: int = 0) -> People:
    """Draw people with a topic each; a share of them takes an item of the history next, others a new one."""
    draw = np.random.default_rng(seed)
    histories, targets = [], []
    for _ in range(number):
        own = np.arange(draw.integers(TOPICS), ITEMS, TOPICS)
        history = draw.permutation(own)[:4].astype(np.int32)
        new = np.setdiff1d(own, history)
        histories.append(history)
        targets.append(draw.choice(history if draw.random() < repeating else new))
    return People([f"u{place}" for place in range(number)], histories, np.array(targets, np.int32))
