"""BERT4Rec: attention both ways, trained to fill gaps in the history (Sun et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor

from trsr.baselines.sequential.item_vectors import ItemVectors
from trsr.baselines.sequential.negatives import NegativeDraw
from trsr.baselines.sequential.settings import Settings
from trsr.baselines.sequential.transformer import AttentionNetwork


class BERT4Rec(AttentionNetwork):
    """Attention blocks in which a place sees all places; the next item is a gap at the end; see `Network`."""

    def __init__(self, items: ItemVectors, settings: Settings) -> None:
        super().__init__(items, settings, added=2)

    def states(self, ids: Tensor) -> Tensor:
        """Attend to every item, earlier and later, ``(n, length, width)``."""
        padded = (ids == self.items.padding)[:, None, None, :]
        bias = self.positions.weight.new_zeros(padded.shape).masked_fill(padded, float("-inf"))
        return self.attend(ids, bias)

    def loss(self, sequences: Tensor, negatives: NegativeDraw, generator: torch.Generator) -> Tensor:
        """Cross-entropy of hidden items; see `Network`.

        A random share is hidden; where chance hides nothing, the last item is, which is the gap to be
        filled in use.
        """
        real = sequences != self.items.padding
        chance = torch.rand(sequences.shape, generator=generator).to(sequences.device)
        hidden = real & (chance < self.settings.mask_share)
        places = torch.arange(sequences.shape[1], device=sequences.device)
        last = places == real.sum(dim=1, keepdim=True) - 1
        hidden |= last & ~hidden.any(dim=1, keepdim=True)
        states = self.states(self.started(sequences.masked_fill(hidden, self.items.hidden)))[:, 1:]
        return self.softmax_loss(states[hidden], sequences[hidden], negatives, generator)

    def read(self, histories: Tensor) -> Tensor:
        """Return the states of a gap after each history, ``(n, width)``."""
        lengths = (histories != self.items.padding).sum(dim=1, keepdim=True)
        longer = torch.cat([histories, histories.new_full((len(histories), 1), self.items.padding)], dim=1)
        return super().read(longer.scatter(1, lengths, self.items.hidden))
