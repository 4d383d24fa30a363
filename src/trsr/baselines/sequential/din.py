"""DIN: the history is weighed by what the candidate is (Zhou et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trsr.baselines.sequential.item_vectors import ItemVectors
from trsr.baselines.sequential.pairwise import PairNetwork
from trsr.baselines.sequential.settings import Settings

_UNITS = 16


class DIN(PairNetwork):
    """Deep interest network; see `Network`.

    As in the paper, the weights of the history's items are not made to sum to 1: a candidate that suits many
    items taken gets a longer interest vector.
    """

    candidates_a_chunk = 256

    def __init__(self, items: ItemVectors, settings: Settings) -> None:
        super().__init__(items, settings)
        width = settings.width
        # One linear layer over [history, candidate, product], taken apart so that each is computed once.
        self.of_history = nn.Linear(width, _UNITS)
        self.of_candidate = nn.Linear(width, _UNITS, bias=False)
        self.of_product = nn.Linear(width, _UNITS, bias=False)
        self.weight = nn.Linear(_UNITS, 1)
        self.perceptron = nn.Sequential(
            nn.Linear(3 * width, width), nn.PReLU(), nn.Dropout(settings.dropout),
            nn.Linear(width, width // 2), nn.PReLU(), nn.Linear(width // 2, 1),
        )  # fmt: skip
        self.dropout = nn.Dropout(settings.dropout)

    def read(self, histories: Tensor) -> Tensor:
        """Return the histories with a start, ``(n, length + 1)``."""
        return self.started(histories)

    def match(self, read: Tensor, candidates: Tensor) -> Tensor:
        """Weigh the history for each candidate; see `Network`."""
        history = self.dropout(self.items(read))
        vectors = self.items(candidates).expand(len(read), -1, -1)
        crossed = self._cross(history, vectors)
        hidden = crossed + self.of_history(history)[:, None] + self.of_candidate(vectors)[:, :, None]
        weights = self.weight(torch.sigmoid(hidden) * hidden).squeeze(3)
        weights = weights.masked_fill((read == self.items.padding)[:, None], 0.0)
        interest = weights @ history
        joined: Tensor = self.perceptron(torch.cat([interest, vectors, interest * vectors], dim=2)).squeeze(2)
        return joined

    def _cross(self, history: Tensor, vectors: Tensor) -> Tensor:
        """Put history times candidates through its layer, ``(n, candidates, length, units)``."""
        if vectors.shape[1] <= _UNITS:
            crossed: Tensor = self.of_product(history[:, None] * vectors[:, :, None])
            return crossed
        # With more candidates than units, the layer is put on the history first: the same sum, less memory.
        scaled = history[:, None] * self.of_product.weight[None, :, None]  # (n, units, length, width)
        return torch.einsum("nulw,ncw->nclu", scaled, vectors)
