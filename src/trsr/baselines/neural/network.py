"""What the neural systems share: settings, vectors of items, negatives, losses.

Those of `sasrec_text` and `sasrec` were compared on validation users of two real data sets; the others share
what these have in common, and were not tuned one by one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from trsr.baselines.base import row_kinds
from trsr.config.section import Section


class Settings(Section):
    """How a network is built and trained."""

    width: int = Field(64, ge=1)
    """Numbers in an item's vector."""
    layers: int = Field(2, ge=1)
    """Blocks, or layers, on top of the item vectors."""
    heads: int = Field(2, ge=1)
    """Attention heads, which divide the width."""
    max_length: int = Field(50, ge=1)
    """Newest items of a history that are read."""
    dropout: float = Field(0.3, ge=0, lt=1)
    """Share of numbers dropped inside the network in training."""
    negatives: int = Field(0, ge=0)
    """Where the loss is a softmax: negatives of a batch, drawn once; 0 for every item that training saw.
    Where the loss is binary: negatives of an example."""
    uniform_share: float = Field(0.5, ge=0, le=1)
    """Share of negatives drawn uniformly; the others are drawn by training count."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target's probability that is spread over the negatives."""
    learning_rate: float = Field(1e-3, gt=0)
    """Of AdamW; it rises to this over the warm-up's steps."""
    warmup_steps: int = Field(100, ge=0)
    """Steps in which the learning rate rises."""
    weight_decay: float = Field(0.0, ge=0)
    """Of AdamW."""
    batch_size: int = Field(256, ge=1)
    """Sequences a step."""
    max_epochs: int = Field(60, ge=1)
    """Training ends after so many epochs. No clock ends it, so that a seed gives the same system on a busy
    machine."""
    patience: int = Field(4, ge=1)
    """Training ends after so many epochs without a better validation figure."""
    average: float = Field(0.0, ge=0, lt=1)
    """Decay of the mean of weights over steps, which is what is validated and kept; 0: the weights are."""
    mask_share: float = Field(0.3, ge=0, le=1)
    """Share of items hidden at a time, for systems that learn to fill gaps."""


class PairSettings(Settings):
    """Where the loss is binary."""

    negatives: int = Field(4, ge=1)
    """Negatives of an example."""
    uniform_share: float = Field(1.0, ge=0, le=1)
    """Share of negatives drawn uniformly; the others are drawn by training count."""
    learning_rate: float = Field(3e-3, gt=0)
    """Of AdamW; it rises to this over the warm-up's steps."""
    batch_size: int = Field(1024, ge=1)
    """Examples a step."""


class NextItemSettings(Settings):
    """Where the loss is a softmax."""

    negatives: int = Field(512, ge=0)
    """Negatives of a batch, drawn once; 0 for every item that training saw."""
    learning_rate: float = Field(3e-3, gt=0)
    """Of AdamW; it rises to this over the warm-up's steps."""
    batch_size: int = Field(128, ge=1)
    """Sequences a step."""
    average: float = Field(0.99, ge=0, lt=1)
    """Decay of the mean of weights over steps, which is what is validated and kept; 0: the weights are."""


SPECIAL = 3
"""Ids after the last item: padding, the start of a history, and a hidden item."""


Adapter = Literal["none", "linear", "mlp"]
"""What a text's vector goes through before it is an item's: nothing, one layer, or two."""


class ItemVectors(nn.Module):
    """Vectors of items and of the special ids: what the item's text says, plus what is learned of the item.

    Parameters
    ----------
    n_items
        Items of the catalogue.
    width
        Numbers in a vector.
    text
        Vectors of the items' texts, ``(n_items, text_width)``, which stay; None for learned vectors alone.
    adapter
        What they go through; with ``none``, `text_width` is the `width`.
    offset_scale
        What the learned part, which is 0 at first, is multiplied with; 0: items have no learned part.
    """

    def __init__(
        self,
        n_items: int,
        width: int,
        text: Tensor | None = None,
        adapter: Adapter = "none",
        offset_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.n_items = n_items
        self._offset_scale = offset_scale
        self._own = text is None or offset_scale > 0
        self.learned = nn.Embedding((n_items if self._own else 0) + SPECIAL, width)
        self.adapter: nn.Module | None = None
        nn.init.normal_(self.learned.weight, std=0.02)
        if text is not None:
            self.text = nn.Buffer(torch.cat([text, text.new_zeros(SPECIAL, text.shape[1])]))
            self.adapter = _adapter(adapter, text.shape[1], width)
            with torch.no_grad():
                self.learned.weight[:-SPECIAL].zero_()

    def forward(self, ids: Tensor) -> Tensor:
        """Look vectors up, ``(..., width)``."""
        if self.adapter is None:
            vectors: Tensor = self.learned(ids)
            return vectors
        of_text: Tensor = self.adapter(self.text[ids])
        if self._own:
            sums: Tensor = of_text + self._offset_scale * self.learned(ids)
            return sums
        special = self.learned((ids - self.n_items).clamp_min(0))
        return torch.where((ids < self.n_items)[..., None], of_text, special)

    @cached_property
    def kinds(self) -> NDArray[np.int64]:
        """Numbers of the items, those of equal vectors alike, ``(n_items,)``; for a trained system."""
        parts = [self.learned.weight[: self.n_items]] if self._own else []
        if self.adapter is not None:
            parts.append(self.text[: self.n_items])
        return row_kinds(torch.cat(parts, dim=1).detach().cpu().numpy())

    @property
    def padding(self) -> int:
        """The id after a history's end."""
        return self.n_items

    @property
    def start(self) -> int:
        """The id before a history's first item."""
        return self.n_items + 1

    @property
    def hidden(self) -> int:
        """The id in the place of an item that is to be guessed."""
        return self.n_items + 2

    @torch.no_grad()
    def settle(self, counts: Tensor) -> None:
        """Give items that training never saw the mean learned part of the items that it saw least often.

        `counts` says how often it saw each, ``(n_items,)``.
        """
        seen = counts[counts > 0]
        if not self._own or len(seen) in (0, len(counts)):
            return
        weights = self.learned.weight[: self.n_items]
        rare = (counts > 0) & (counts <= seen.float().quantile(0.1))
        weights[counts == 0] = weights[rare].mean(dim=0)


def _adapter(kind: Adapter, text_width: int, width: int) -> nn.Module:
    if kind == "none":
        return nn.Identity()
    first = nn.Linear(text_width, width, bias=kind == "mlp")
    if kind == "mlp":
        return nn.Sequential(first, nn.GELU(), nn.Linear(width, width))
    if text_width == width:
        nn.init.eye_(first.weight)
    return first


_NEVER = -1e9


class NegativeDraw:
    """Draws items that training saw: a share of them uniformly, the others by training count.

    Items that training never saw are no negatives, so that nothing pushes them down. `counts` says how often
    it saw each, ``(n_items,)``.
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
    own, others
        Logits of the targets, ``(n,)``, and of the negatives, ``(n, n_drawn)``.
    targets, drawn
        Ids of the targets, ``(n,)``, and of the negatives, ``(n_drawn,)``.
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


class Network(nn.Module, ABC):
    """A network over histories of items."""

    of_prefixes: ClassVar[bool] = False
    """Training examples are all prefixes of the sequences, each with its last item as the target."""

    candidates_a_chunk: ClassVar[int] = 8192
    """Candidates that `match` takes at a time without using much memory."""

    def __init__(self, items: ItemVectors, settings: Settings) -> None:
        super().__init__()
        self.items = items
        self.settings = settings

    @abstractmethod
    def loss(self, sequences: Tensor, negatives: NegativeDraw, generator: torch.Generator) -> Tensor:
        """Measure how badly padded sequences ``(n, length)`` are foretold."""

    @abstractmethod
    def read(self, histories: Tensor) -> Tensor:
        """Turn histories ``(n, length)``, padded at the end, maybe empty, into what `match` needs."""

    @abstractmethod
    def match(self, read: Tensor, candidates: Tensor) -> Tensor:
        """Score candidates, ``(n, n_candidates)``, against what `read` gave of n users, its first dimension.

        They are each user's own, ``(n, n_candidates)``, or ids that all users share, ``(n_candidates,)``.
        """

    @abstractmethod
    def kind_of_negatives(self, n_seen: int) -> str:
        """Say in words what targets are told from in training, which saw `n_seen` items."""

    def started(self, sequences: Tensor) -> Tensor:
        """Put the start before sequences, so that none is empty, ``(n, length + 1)``."""
        return torch.cat([sequences.new_full((len(sequences), 1), self.items.start), sequences], dim=1)


class NextItemNetwork(Network):
    """An item's score is its vector times the last state; see `Network`."""

    @abstractmethod
    def states(self, ids: Tensor) -> Tensor:
        """Read a start and items after it ``(n, length)``; a state knows nothing of later places.

        The states are ``(n, length, width)``.
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
