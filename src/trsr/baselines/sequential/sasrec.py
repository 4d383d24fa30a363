"""SASRec: causal self-attention over the history (Kang and McAuley 2018), with a softmax loss."""

from __future__ import annotations

from torch import Tensor

from trsr.baselines.sequential.item_vectors import ItemVectors
from trsr.baselines.sequential.settings import Settings
from trsr.baselines.sequential.transformer import AttentionNetwork, causal_bias


class SASRec(AttentionNetwork):
    """Attention blocks in which a place sees earlier places only; see `Network`."""

    def __init__(self, items: ItemVectors, settings: Settings) -> None:
        super().__init__(items, settings, added=1)

    def states(self, ids: Tensor) -> Tensor:
        """Attend; see `NextItemNetwork`."""
        return self.attend(ids, causal_bias(self.positions.weight, ids.shape[1]))
