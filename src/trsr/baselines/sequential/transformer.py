"""Attention blocks over histories."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from trsr.baselines.sequential.item_vectors import ItemVectors
from trsr.baselines.sequential.next_item import NextItemNetwork
from trsr.baselines.sequential.settings import Settings


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
        self.feed = nn.Sequential(
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
        n, length, width = states.shape
        parts = self.queries_keys_values(self.before_attention(states))
        queries, keys, values = parts.view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
        states = states + self.dropout(self.joined(attended.transpose(1, 2).reshape(n, length, width)))
        passed: Tensor = states + self.dropout(self.feed(self.before_feed(states)))
        return passed


class AttentionNetwork(NextItemNetwork):
    """Items with their places, through attention blocks.

    Parameters
    ----------
    items, settings
        As for every `Network`.
    added
        Places beyond `settings.max_length`: the start, and what else stands in a sequence.
    """

    def __init__(self, items: ItemVectors, settings: Settings, added: int) -> None:
        super().__init__(items, settings)
        width = settings.width
        self.positions = nn.Embedding(settings.max_length + added, width)
        nn.init.normal_(self.positions.weight, std=0.02)
        self.blocks = nn.ModuleList(
            Block(width, settings.heads, settings.dropout) for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(settings.dropout)

    def attend(self, ids: Tensor, bias: Tensor) -> Tensor:
        """Return the states of all places, ``(n, length, width)``.

        Parameters
        ----------
        ids
            Items, ``(n, length)``.
        bias
            As `Block` takes it.
        """
        states = self.items(ids) * self.settings.width**0.5 + self.positions.weight[: ids.shape[1]]
        states = self.dropout(states)
        for block in self.blocks:
            states = block(states, bias)
        normed: Tensor = self.norm(states)
        return normed


def causal_bias(weight: Tensor, length: int) -> Tensor:
    """Let each place attend to itself and to earlier ones; of the type and on the device of `weight`.

    Returns
    -------
    torch.Tensor
        ``(1, 1, length, length)``.
    """
    return weight.new_full((length, length), float("-inf")).triu(1)[None, None]
