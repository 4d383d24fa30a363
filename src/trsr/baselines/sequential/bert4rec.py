"""BERT4Rec: attention both ways, trained to fill gaps in the history (Sun et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trsr.baselines.sequential.item_vectors import ItemVectors
from trsr.baselines.sequential.negatives import NegativeDraw
from trsr.baselines.sequential.next_item import NextItemNetwork
from trsr.baselines.sequential.settings import Settings
from trsr.baselines.sequential.transformer import Block


class BERT4Rec(NextItemNetwork):
    """Attention blocks in which a place sees all places; the next item is a gap at the end; see `Network`."""

    def __init__(self, items: ItemVectors, settings: Settings) -> None:
        super().__init__(items, settings)
        width = settings.width
        self.positions = nn.Embedding(settings.max_length + 2, width)
        nn.init.normal_(self.positions.weight, std=0.02)
        self.blocks = nn.ModuleList(
            Block(width, settings.heads, settings.dropout) for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(settings.dropout)

    def states(self, ids: Tensor) -> Tensor:
        """Attend to every item, earlier and later, ``(n, length, width)``."""
        states = self.items(ids) * self.settings.width**0.5 + self.positions.weight[: ids.shape[1]]
        states = self.dropout(states)
        padded = (ids == self.items.padding)[:, None, None, :]
        bias = states.new_zeros(padded.shape).masked_fill(padded, float("-inf"))
        for block in self.blocks:
            states = block(states, bias)
        normed: Tensor = self.norm(states)
        return normed

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
