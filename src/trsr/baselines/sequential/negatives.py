"""Negatives of training, and the softmax over a target and its negatives."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

_NEVER = -1e9


class NegativeDraw:
    """Draws items that training saw: a share of them uniformly, the others by training count.

    Items that training never saw are no negatives, so that nothing pushes them down.

    Parameters
    ----------
    counts
        How often training saw each item, ``(n_items,)``.
    uniform_share
        Share of uniform draws.
    """

    def __init__(self, counts: Tensor, uniform_share: float) -> None:
        self.seen = torch.nonzero(counts > 0).squeeze(1)
        taken = counts[self.seen].double()
        chances = uniform_share / len(taken) + (1 - uniform_share) * taken / taken.sum()
        self._edges = torch.cumsum(chances, 0)
        self._edges[-1] = 1.0
        self.log_chance = torch.full((len(counts),), _NEVER, device=counts.device)
        self.log_chance[self.seen] = chances.log().float()

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw ids with replacement."""
        # Drawn on the CPU: the same on every device.
        points = torch.rand(shape, generator=generator, dtype=torch.float64).to(self.seen.device)
        return self.seen[torch.searchsorted(self._edges, points, right=True).clamp_max(len(self.seen) - 1)]


def sampled_softmax(
    own: Tensor, others: Tensor, targets: Tensor, drawn: Tensor, log_chance: Tensor, smoothing: float
) -> Tensor:
    """Mean cross-entropy of targets among shared negatives, corrected for how those were drawn.

    A logit is lowered by the log of how often its item is expected in the draw, so that the sampled loss
    estimates the full softmax (Bengio and Senécal 2008; Jean et al. 2015).

    Parameters
    ----------
    own
        Logits of the targets, ``(n,)``.
    others
        Logits of the negatives, ``(n, n_drawn)``.
    targets
        Ids of the targets, ``(n,)``.
    drawn
        Ids of the negatives, ``(n_drawn,)``.
    log_chance
        Log of each item's chance in one draw, ``(n_items,)``.
    smoothing
        Label smoothing.
    """
    expected = log_chance[drawn] + math.log(len(drawn))
    others = (others - expected).masked_fill(targets[:, None] == drawn, _NEVER)
    norm = torch.logsumexp(torch.cat([own[:, None], others], dim=1), dim=1)
    loss = (norm - own).mean()
    if smoothing:
        weights = torch.softmax(-expected, 0)
        loss = (1 - smoothing) * loss + smoothing * (norm - others.clamp_min(-50) @ weights).mean()
    return loss


def full_softmax(logits: Tensor, columns: Tensor, smoothing: float) -> Tensor:
    """Mean cross-entropy of the targets' `columns` in `logits` over all items, ``(n, n_items)``."""
    return functional.cross_entropy(logits, columns, label_smoothing=smoothing)
