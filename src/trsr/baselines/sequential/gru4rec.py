"""GRU4Rec: a gated recurrent network over the history (Hidasi et al. 2016), with a softmax loss."""

from __future__ import annotations

from torch import Tensor, nn

from trsr.baselines.sequential.item_vectors import ItemVectors
from trsr.baselines.sequential.next_item import NextItemNetwork
from trsr.baselines.sequential.settings import Settings


class GRU4Rec(NextItemNetwork):
    """A GRU whose output is mapped into the space of item vectors; see `Network`."""

    def __init__(self, items: ItemVectors, settings: Settings) -> None:
        super().__init__(items, settings)
        width = settings.width
        self.recurrent = nn.GRU(width, width, settings.layers, batch_first=True)
        self.mapped = nn.Linear(width, width)
        self.dropout = nn.Dropout(settings.dropout)

    def states(self, ids: Tensor) -> Tensor:
        """Run over the history; see `NextItemNetwork`."""
        outputs, _ = self.recurrent(self.dropout(self.items(ids)))
        mapped: Tensor = self.mapped(self.dropout(outputs))
        return mapped
