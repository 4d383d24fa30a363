"""Caser: convolutions over the newest items seen as an image (Tang and Wang 2018), with a softmax loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from trsr.baselines.sequential.item_vectors import ItemVectors
from trsr.baselines.sequential.next_item import NextItemNetwork
from trsr.baselines.sequential.settings import Settings

_WINDOW = 5
_ACROSS = 16
_DOWN = 4


class Caser(NextItemNetwork):
    """Filters across 1 to 5 neighbouring items and down the window of 5; see `Network`.

    The paper's user vector is left out: the users who are measured are not those of training.
    """

    def __init__(self, items: ItemVectors, settings: Settings) -> None:
        super().__init__(items, settings)
        width = settings.width
        self.across = nn.ModuleList(nn.Conv1d(width, _ACROSS, height) for height in range(1, _WINDOW + 1))
        self.down = nn.Linear(_WINDOW, _DOWN, bias=False)
        self.mapped = nn.Linear(_WINDOW * _ACROSS + _DOWN * width, width)
        self.dropout = nn.Dropout(settings.dropout)

    def states(self, ids: Tensor) -> Tensor:
        """Filter the window that ends at each place; see `NextItemNetwork`."""
        vectors = self.items(functional.pad(ids, (_WINDOW - 1, 0), value=self.items.padding))
        windows = vectors.unfold(1, _WINDOW, 1)  # (n, length, width, window)
        n, length = ids.shape
        images = self.dropout(windows.reshape(n * length, self.settings.width, _WINDOW))
        seen = [functional.relu(filters(images)).amax(dim=2) for filters in self.across]
        features = torch.cat([*seen, self.down(images).flatten(1)], dim=1)
        mapped: Tensor = self.mapped(self.dropout(features))
        return mapped.view(n, length, -1)
