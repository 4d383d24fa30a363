"""NCF: a product and a perceptron of user and item vectors, joined (NeuMF, He et al. 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trsr.baselines.sequential.item_vectors import ItemVectors
from trsr.baselines.sequential.pairwise import PairNetwork
from trsr.baselines.sequential.settings import Settings


class NCF(PairNetwork):
    """Neural collaborative filtering; see `Network`.

    The users who are measured are not those of training, so that no user has a vector of their own: a user
    is the mean of vectors of the items taken, which have a table apart from the candidates' one.
    """

    def __init__(self, items: ItemVectors, settings: Settings) -> None:
        super().__init__(items, settings)
        width = settings.width
        self.taken = ItemVectors(items.n_items, width)
        self.n_product = width // 2
        self.perceptron = nn.Sequential(
            nn.Linear(2 * (width - self.n_product), width), nn.ReLU(), nn.Dropout(settings.dropout),
            nn.Linear(width, width // 2), nn.ReLU(),
        )  # fmt: skip
        self.joined = nn.Linear(self.n_product + width // 2, 1)
        self.dropout = nn.Dropout(settings.dropout)

    def read(self, histories: Tensor) -> Tensor:
        """Average the items taken, ``(n, width)``."""
        ids = self.started(histories)
        real = (ids != self.items.padding).unsqueeze(2)
        mean: Tensor = self.dropout((self.taken(ids) * real).sum(dim=1) / real.sum(dim=1))
        return mean

    def match(self, read: Tensor, candidates: Tensor) -> Tensor:
        """Join product and perceptron; see `Network`."""
        vectors = self.items(candidates).expand(len(read), -1, -1)
        users = read[:, None, :].expand_as(vectors)
        product = users[..., : self.n_product] * vectors[..., : self.n_product]
        passed = self.perceptron(
            torch.cat([users[..., self.n_product :], vectors[..., self.n_product :]], dim=2)
        )
        joined: Tensor = self.joined(torch.cat([product, passed], dim=2)).squeeze(2)
        return joined
