"""An item's vector: a learned part, and for systems that read texts a projection of the text's vector."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trsr.baselines.profiles import row_kinds

SPECIAL = 3
"""Ids after the last item: padding, the start of a history, and a hidden item."""


class ItemVectors(nn.Module):
    """Vectors of items and of the special ids.

    Parameters
    ----------
    n_items
        Items of the catalogue.
    width
        Numbers in a vector.
    text
        Vectors of the items' texts, ``(n_items, text_width)``; None for learned vectors alone.
    offset_scale
        What the learned part is multiplied with, where there is text.
    """

    def __init__(
        self, n_items: int, width: int, text: Tensor | None = None, offset_scale: float = 1.0
    ) -> None:
        super().__init__()
        self.n_items = n_items
        self._offset_scale = offset_scale
        self.learned = nn.Embedding(n_items + SPECIAL, width)
        self.projection: nn.Linear | None = None
        nn.init.normal_(self.learned.weight, std=0.02)
        if text is not None:
            self.text = nn.Buffer(torch.cat([text, text.new_zeros(SPECIAL, text.shape[1])]))
            self.projection = nn.Linear(text.shape[1], width, bias=False)
            with torch.no_grad():
                self.learned.weight[:n_items].zero_()
                nn.init.eye_(self.projection.weight)

    def forward(self, ids: Tensor) -> Tensor:
        """Look vectors up, ``(..., width)``."""
        vectors: Tensor = self.learned(ids)
        if self.projection is None:
            return vectors
        of_text: Tensor = self.projection(self.text[ids])
        return of_text + self._offset_scale * vectors

    @cached_property
    def kinds(self) -> NDArray[np.int64]:
        """Numbers of the items, those of equal vectors alike, ``(n_items,)``; for a trained system."""
        parts = [self.learned.weight] if self.projection is None else [self.learned.weight, self.text]
        return row_kinds(torch.cat(parts, dim=1)[: self.n_items].detach().cpu().numpy())

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

        Parameters
        ----------
        counts
            How often training saw each item, ``(n_items,)``.
        """
        seen = counts[counts > 0]
        if len(seen) in (0, len(counts)):
            return
        weights = self.learned.weight[: self.n_items]
        rare = (counts > 0) & (counts <= seen.float().quantile(0.1))
        weights[counts == 0] = weights[rare].mean(dim=0)
