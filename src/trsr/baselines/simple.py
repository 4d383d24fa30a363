"""Systems that read no text: popularity, random, neighbours of items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse

from trsr.baselines.base import Baseline, history_rows, log_likeness, products
from trsr.baselines.training_data import Places, TrainingData
from trsr.config.section import Section
from trsr.data.candidates import uniforms, user_keys
from trsr.records import ITEM


class Popularity(Baseline):
    """The item's count over training sequences."""

    label = "Popularity"
    description = "The items that most users took stand first, the same for everybody."
    counts_interactions = True
    learnt = ("_counts",)

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
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

    @staticmethod
    def utilities(scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Take the logarithm of counts; see `Baseline`."""
        logarithms: NDArray[np.float64] = np.log1p(scores)
        return logarithms


class Random(Baseline):
    """A random number per pair and seed; it depends on the ids of user and item, and on no other row."""

    label = "Random order"
    description = "The order is drawn by lot: what knowing nothing is worth."
    learnt = ("_items",)

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._items = np.empty(0, np.uint64)

    def fit(self, data: TrainingData) -> None:
        """Hash the items' ids; see `Baseline`."""
        self._items = user_keys(data.items[ITEM], self.seed, "random baseline, items")

    def score(
        self, users: Sequence[str], histories: Sequence[Places], candidates: Places | None = None
    ) -> NDArray[np.float64]:
        """Draw a number of [0, 1) per pair; see `Baseline`."""
        rows = user_keys(users, self.seed, "random baseline, users")
        columns = self._items[None, :] if candidates is None else self._items[candidates]
        pairs = rows[:, None] ^ columns
        return uniforms(pairs.ravel(), 1)[:, 0].reshape(pairs.shape)


class ItemNeighboursSettings(Section):
    """How neighbours count."""

    # On validation users of MicroLens and Amazon Industrial, decays from 0.7 to 0.9, a shrunk cosine and
    # conditional probabilities were within .01 NDCG of these; a back-off from 0.01 on took .01 and more.
    decay: float = Field(0.8, gt=0, le=1)
    """What an item of the history weighs, to the power of its age."""
    window: int | None = Field(None, ge=1)
    """Two items occur together when so many steps at most lie between them, the more the nearer they are, and
    what follows counts twice as much as what came before; null: when one sequence holds both."""
    back_off: float = Field(1e-4, ge=0)
    """Weight of popularity, which orders what was never seen together with the history."""


def _in_sequence(data: TrainingData) -> tuple[sparse.csr_array, NDArray[np.float64]]:
    """Count sequences that hold both of two items, and take the roots of those that hold each."""
    taken = history_rows(data.sequences, data.items.height)
    taken.data[:] = 1.0
    together = sparse.csr_array(taken.T @ taken)
    return together, np.sqrt(together.diagonal())


def _in_window(data: TrainingData, window: int) -> tuple[sparse.csr_array, NDArray[np.float64]]:
    """Count pairs of near items by 1 / distance, those that follow (rows) once and those before a half."""
    n_items = data.items.height
    together = sparse.csr_array((n_items, n_items))
    for distance in range(1, window + 1):
        pairs = [(row[:-distance], row[distance:]) for row in (*data.sequences, np.empty(0, np.int32))]
        before = np.concatenate([first for first, _ in pairs])
        after = np.concatenate([second for _, second in pairs])
        near = np.full(len(before), 1 / distance)
        following = sparse.csr_array((near, (after, before)), shape=(n_items, n_items))
        together = sparse.csr_array(together + following + 0.5 * following.T)
    return together, np.sqrt(np.maximum(data.counts, 1))


class ItemNeighbours(Baseline):
    """Cosine of co-occurrence with each item of the history; newer items weigh more.

    Two items occur together when one sequence holds both, or holds them near each other. The likeness to an
    item of the history counts
    `decay` to the power of that item's age. Popularity, far below any likeness, orders the items that were
    never seen together with the history. Source: Deshpande and Karypis, Item-based top-N recommendation
    algorithms, TOIS 2004.
    """

    label = "ItemKNN"
    description = "Items that the same users took as those of the history."
    counts_interactions = True
    Settings = ItemNeighboursSettings
    learnt = ("_likeness", "_back_off")
    utilities = staticmethod(log_likeness)

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._likeness = sparse.csr_array((0, 0))
        self._back_off = np.empty(0)

    def fit(self, data: TrainingData) -> None:
        """Count what training sequences hold together; see `Baseline`."""
        window = self.settings.window
        together, norms = _in_sequence(data) if window is None else _in_window(data, window)
        together.setdiag(0)
        together.eliminate_zeros()
        together.data /= np.repeat(norms, np.diff(together.indptr)) * norms[together.indices]
        self._likeness = together
        counts = data.counts
        self._back_off = self.settings.back_off * counts / counts.max(initial=1)

    def score(
        self, users: Sequence[str], histories: Sequence[Places], candidates: Places | None = None
    ) -> NDArray[np.float64]:
        """Add up the candidates' likeness to the history's items; see `Baseline`."""
        recent = history_rows(histories, len(self._back_off), self.settings.decay)
        back_off = self._back_off[None, :] if candidates is None else self._back_off[candidates]
        # Without a window the likeness is symmetric: its rows are its columns.
        turned = self._likeness if self.settings.window is None else sparse.csr_array(self._likeness.T)
        return products(recent, self._likeness, candidates, turned) + back_off
