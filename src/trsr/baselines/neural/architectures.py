"""The networks: SASRec, eSASRec, BERT4Rec, GRU4Rec, Caser, NCF, DIN."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from trsr.baselines.neural.network import ItemVectors, NegativeDraw, NextItemNetwork, PairNetwork, Settings


class Block(nn.Module):
    """Self-attention and a feed-forward layer, each behind a layer norm and beside a skip connection.

    Parameters
    ----------
    width
        Numbers in a state.
    heads
        Attention heads.
    dropout
        Share of numbers dropped in training.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.joined = nn.Linear(width, width)
        self.before_feed = nn.LayerNorm(width)
        self.feed: nn.Module = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, bias: Tensor) -> Tensor:
        """Pass states ``(n, length, width)`` on.

        Parameters
        ----------
        states
            One state a place.
        bias
            What is added to the attention of place i to place j, ``(n or 1, heads or 1, length, length)``.
        """
        states = states + self.dropout(self.attend(states, bias))
        passed: Tensor = states + self.dropout(self.feed(self.before_feed(states)))
        return passed

    def attend(self, states: Tensor, bias: Tensor) -> Tensor:
        """Return what each place takes from the others, ``(n, length, width)``; see `forward`."""
        n, length, width = states.shape
        parts = self.queries_keys_values(self.before_attention(states))
        queries, keys, values = parts.view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
        joined: Tensor = self.joined(attended.transpose(1, 2).reshape(n, length, width))
        return joined


class SwiGLU(nn.Module):
    """A feed-forward layer of which one half, through a sigmoid, gates the other; no biases.

    Source: Shazeer, GLU variants improve transformer, 2020 (arXiv 2002.05202).
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.opened = nn.Linear(width, 2 * 4 * width, bias=False)
        self.closed = nn.Linear(4 * width, width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor) -> Tensor:
        """Pass states ``(..., width)`` on."""
        gates, values = self.opened(states).chunk(2, dim=-1)
        passed: Tensor = self.closed(self.dropout(functional.silu(gates) * values))
        return passed


class LiGRBlock(Block):
    """A block in which a state decides, number by number, how much of each layer is added to it.

    The feed-forward layer is a `SwiGLU`, four times as wide as a state. Source: Borisyuk et al., From
    features to transformers: redefining ranking for scalable impact, 2025 (arXiv 2502.03417).
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__(width, heads, dropout)
        self.feed: nn.Module = SwiGLU(width, dropout)
        self.gate_attention = nn.Linear(width, width)
        self.gate_feed = nn.Linear(width, width)

    def forward(self, states: Tensor, bias: Tensor) -> Tensor:
        """Pass states ``(n, length, width)`` on; see `Block.forward`."""
        gate = torch.sigmoid(self.gate_attention(states))
        states = states + gate * self.dropout(self.attend(states, bias))
        gate = torch.sigmoid(self.gate_feed(states))
        passed: Tensor = states + gate * self.dropout(self.feed(self.before_feed(states)))
        return passed


class AttentionNetwork(NextItemNetwork):
    """Items with their places, through attention blocks; see `Network`.

    `added` counts places beyond `settings.max_length`: the start, and what else stands in a sequence.
    """

    block: ClassVar[type[Block]] = Block
    """What its layers are."""

    def __init__(self, items: ItemVectors, settings: Settings, added: int) -> None:
        super().__init__(items, settings)
        width = settings.width
        self.positions = nn.Embedding(settings.max_length + added, width)
        nn.init.normal_(self.positions.weight, std=0.02)
        self.blocks = nn.ModuleList(
            self.block(width, settings.heads, settings.dropout) for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(settings.dropout)

    def attend(self, ids: Tensor, bias: Tensor) -> Tensor:
        """Return states ``(n, length, width)`` of places with ids ``(n, length)``; see `Block.forward`."""
        states = self.items(ids) * self.settings.width**0.5 + self.positions.weight[: ids.shape[1]]
        states = self.dropout(states)
        for block in self.blocks:
            states = block(states, bias)
        normed: Tensor = self.norm(states)
        return normed


def causal_bias(weight: Tensor, length: int) -> Tensor:
    """Let each place attend to itself and to earlier ones, ``(1, 1, length, length)``.

    Of the type and on the device of `weight`.
    """
    return weight.new_full((length, length), float("-inf")).triu(1)[None, None]


class SASRec(AttentionNetwork):
    """Attention blocks in which a place sees earlier places only; see `Network`."""

    def __init__(self, items: ItemVectors, settings: Settings) -> None:
        super().__init__(items, settings, added=1)

    def states(self, ids: Tensor) -> Tensor:
        """Attend; see `NextItemNetwork`."""
        return self.attend(ids, causal_bias(self.positions.weight, ids.shape[1]))


class ESASRec(SASRec):
    """SASRec with blocks whose layers are gated; see `LiGRBlock`."""

    block = LiGRBlock


class BERT4Rec(AttentionNetwork):
    """Attention blocks in which a place sees all places; the next item is a gap at the end; see `Network`."""

    def __init__(self, items: ItemVectors, settings: Settings) -> None:
        super().__init__(items, settings, added=2)

    def states(self, ids: Tensor) -> Tensor:
        """Attend to every item, earlier and later, ``(n, length, width)``."""
        padded = (ids == self.items.padding)[:, None, None, :]
        bias = self.positions.weight.new_zeros(padded.shape).masked_fill(padded, float("-inf"))
        return self.attend(ids, bias)

    def loss(self, sequences: Tensor, negatives: NegativeDraw, generator: torch.Generator) -> Tensor:
        """Cross-entropy of hidden items; see `Network`.

        A random share is hidden; where chance hides nothing, the last item is, which is the gap to be
        filled in use.
        """
        real = sequences != self.items.padding
        chance = torch.rand(sequences.shape, generator=generator).to(sequences.device)
        hidden = real & (chance < self.settings.mask_share)
        places = torch.arange(sequences.shape[1], device=sequences.device)
        last = places == real.sum(dim=1, keepdim=True) - 1
        hidden |= last & ~hidden.any(dim=1, keepdim=True)
        states = self.states(self.started(sequences.masked_fill(hidden, self.items.hidden)))[:, 1:]
        return self.softmax_loss(states[hidden], sequences[hidden], negatives, generator)

    def read(self, histories: Tensor) -> Tensor:
        """Return the states of a gap after each history, ``(n, width)``."""
        lengths = (histories != self.items.padding).sum(dim=1, keepdim=True)
        longer = torch.cat([histories, histories.new_full((len(histories), 1), self.items.padding)], dim=1)
        return super().read(longer.scatter(1, lengths, self.items.hidden))


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


_UNITS = 16


class DIN(PairNetwork):
    """Deep interest network; see `Network`.

    As in the paper, the weights of the history's items are not made to sum to 1: a candidate that suits many
    items taken gets a longer interest vector.
    """

    candidates_a_chunk = 256

    def __init__(self, items: ItemVectors, settings: Settings) -> None:
        super().__init__(items, settings)
        width = settings.width
        # One linear layer over [history, candidate, product], taken apart so that each is computed once.
        self.of_history = nn.Linear(width, _UNITS)
        self.of_candidate = nn.Linear(width, _UNITS, bias=False)
        self.of_product = nn.Linear(width, _UNITS, bias=False)
        self.weight = nn.Linear(_UNITS, 1)
        self.perceptron = nn.Sequential(
            nn.Linear(3 * width, width), nn.PReLU(), nn.Dropout(settings.dropout),
            nn.Linear(width, width // 2), nn.PReLU(), nn.Linear(width // 2, 1),
        )  # fmt: skip
        self.dropout = nn.Dropout(settings.dropout)

    def read(self, histories: Tensor) -> Tensor:
        """Return the histories with a start, ``(n, length + 1)``."""
        return self.started(histories)

    def match(self, read: Tensor, candidates: Tensor) -> Tensor:
        """Weigh the history for each candidate; see `Network`."""
        history = self.dropout(self.items(read))
        vectors = self.items(candidates).expand(len(read), -1, -1)
        crossed = self._cross(history, vectors)
        hidden = crossed + self.of_history(history)[:, None] + self.of_candidate(vectors)[:, :, None]
        weights = self.weight(torch.sigmoid(hidden) * hidden).squeeze(3)
        weights = weights.masked_fill((read == self.items.padding)[:, None], 0.0)
        interest = weights @ history
        joined: Tensor = self.perceptron(torch.cat([interest, vectors, interest * vectors], dim=2)).squeeze(2)
        return joined

    def _cross(self, history: Tensor, vectors: Tensor) -> Tensor:
        """Put history times candidates through its layer, ``(n, candidates, length, units)``."""
        if vectors.shape[1] <= _UNITS:
            crossed: Tensor = self.of_product(history[:, None] * vectors[:, :, None])
            return crossed
        # With more candidates than units, the layer is put on the history first: the same sum, less memory.
        scaled = history[:, None] * self.of_product.weight[None, :, None]  # (n, units, length, width)
        return torch.einsum("nulw,ncw->nclu", scaled, vectors)
