"""SASRec: causal self-attention over the history (Kang and McAuley 2018), with a softmax loss."""

from __future__ import annotations

from torch import Tensor, nn

from trsr.baselines.sequential.item_vectors import ItemVectors
from trsr.baselines.sequential.next_item import NextItemNetwork
from trsr.baselines.sequential.settings import Settings
from trsr.baselines.sequential.transformer import Block, causal_bias


class SASRec(NextItemNetwork):
    """Attention blocks in which a place sees earlier places only; see `Network`."""

    def __init__(self, items: ItemVectors, settings: Settings) -> None:
        super().__init__(items, settings)
        width = settings.width
        self.positions = nn.Embedding(settings.max_length + 1, width)
        nn.init.normal_(self.positions.weight, std=0.02)
        self.blocks = nn.ModuleList(
            Block(width, settings.heads, settings.dropout) for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(settings.dropout)

    def states(self, ids: Tensor) -> Tensor:
        """Attend; see `NextItemNetwork`."""
        states = self.items(ids) * self.settings.width**0.5 + self.positions.weight[: ids.shape[1]]
        states = self.dropout(states)
        bias = causal_bias(states)
        for block in self.blocks:
            states = block(states, bias)
        normed: Tensor = self.norm(states)
        return normed
