"""What every sequential network is: it has a loss on training sequences, and it scores candidates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from trsr.baselines.sequential.item_vectors import ItemVectors
from trsr.baselines.sequential.negatives import NegativeDraw
from trsr.baselines.sequential.settings import Settings


class Network(nn.Module, ABC):
    """A network over histories of items.

    Parameters
    ----------
    items
        The item vectors.
    settings
        How it is built.
    """

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
        """Score candidates against what `read` gave.

        Parameters
        ----------
        read
            Of n users, in the first dimension.
        candidates
            Each user's own, ``(n, n_candidates)``, or ids that all users share, ``(n_candidates,)``.

        Returns
        -------
        torch.Tensor
            ``(n, n_candidates)``.
        """

    @abstractmethod
    def kind_of_negatives(self, n_seen: int) -> str:
        """Say in words what targets are told from in training.

        Parameters
        ----------
        n_seen
            Items that training saw.
        """

    def started(self, sequences: Tensor) -> Tensor:
        """Put the start before sequences, so that none is empty, ``(n, length + 1)``."""
        return torch.cat([sequences.new_full((len(sequences), 1), self.items.start), sequences], dim=1)
