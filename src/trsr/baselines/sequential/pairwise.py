"""Networks that judge one pair of history and candidate at a time, trained to tell taken from not taken."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from trsr.baselines.sequential.negatives import NegativeDraw
from trsr.baselines.sequential.network import Network


class PairNetwork(Network):
    """Binary cross-entropy of the target against some drawn items; see `Network`."""

    of_prefixes = True

    def loss(self, sequences: Tensor, negatives: NegativeDraw, generator: torch.Generator) -> Tensor:
        """Tell each sequence's last item from negatives by the items before; see `Network`."""
        last = (sequences != self.items.padding).sum(dim=1) - 1
        places = torch.arange(sequences.shape[1], device=sequences.device)
        targets = sequences.gather(1, last[:, None])
        histories = sequences.masked_fill(places >= last[:, None], self.items.padding)[:, :-1]
        drawn = negatives.draw((len(sequences), self.settings.negatives), generator)
        logits = self.match(self.read(histories), torch.cat([targets, drawn], dim=1))
        labels = torch.zeros_like(logits)
        labels[:, 0] = 1
        weights = torch.cat([torch.ones_like(targets), drawn != targets], dim=1).to(logits.dtype)
        return functional.binary_cross_entropy_with_logits(logits, labels, weights)

    def kind_of_negatives(self, n_seen: int) -> str:
        """Say how many are drawn; see `Network`."""
        uniform = self.settings.uniform_share
        mix = "uniform" if uniform == 1 else f"{uniform:.0%} uniform and {1 - uniform:.0%} by popularity"
        return f"{self.settings.negatives} negatives an example, {mix}"
