"""Networks that hold a state after every item and foretell the next one by a softmax."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from trsr.baselines.sequential.negatives import NegativeDraw, full_softmax, sampled_softmax
from trsr.baselines.sequential.network import Network


class NextItemNetwork(Network):
    """An item's score is its vector times the last state; see `Network`."""

    @abstractmethod
    def states(self, ids: Tensor) -> Tensor:
        """Read a start and items after it ``(n, length)``; a state knows nothing of later places.

        Returns
        -------
        torch.Tensor
            ``(n, length, width)``.
        """

    def loss(self, sequences: Tensor, negatives: NegativeDraw, generator: torch.Generator) -> Tensor:
        """Cross-entropy of every item given those before it; see `Network`."""
        states = self.states(self.started(sequences[:, :-1]))
        real = sequences != self.items.padding
        return self.softmax_loss(states[real], sequences[real], negatives, generator)

    def read(self, histories: Tensor) -> Tensor:
        """Return the last states, ``(n, width)``."""
        ids = self.started(histories)
        last = (ids != self.items.padding).sum(dim=1) - 1
        return self.states(ids)[torch.arange(len(ids), device=ids.device), last]

    def match(self, read: Tensor, candidates: Tensor) -> Tensor:
        """Multiply last states with candidates; see `Network`."""
        vectors = self.items(candidates)
        if candidates.dim() == 1:
            shared: Tensor = read @ vectors.T
            return shared
        return torch.einsum("nw,ncw->nc", read, vectors)

    def softmax_loss(
        self, states: Tensor, targets: Tensor, negatives: NegativeDraw, generator: torch.Generator
    ) -> Tensor:
        """Cross-entropy of targets ``(n,)`` under states ``(n, width)``, over all items or a draw."""
        smoothing = self.settings.label_smoothing
        if self._is_full(len(negatives.seen)):
            logits = states @ self.items(negatives.seen).T
            return full_softmax(logits, torch.searchsorted(negatives.seen, targets), smoothing)
        drawn = negatives.draw((self.settings.negatives,), generator)
        own = (states * self.items(targets)).sum(dim=1)
        others = states @ self.items(drawn).T
        return sampled_softmax(own, others, targets, drawn, negatives.log_chance, smoothing)

    def kind_of_negatives(self, n_seen: int) -> str:
        """Say whether the softmax is over all items; see `Network`."""
        if self._is_full(n_seen):
            return f"full softmax over {n_seen:,} items"
        uniform = self.settings.uniform_share
        return (
            f"softmax over {self.settings.negatives:,} negatives a batch, {uniform:.0%} uniform and "
            f"{1 - uniform:.0%} by popularity, corrected for the draw"
        )

    def _is_full(self, n_seen: int) -> bool:
        return not 0 < self.settings.negatives < n_seen
