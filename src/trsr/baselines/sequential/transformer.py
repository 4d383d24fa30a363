"""Attention blocks over histories."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


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


def causal_bias(states: Tensor) -> Tensor:
    """Let each place of states ``(n, length, width)`` attend to itself and to earlier ones.

    Returns
    -------
    torch.Tensor
        ``(1, 1, length, length)``.
    """
    length = states.shape[1]
    return states.new_full((length, length), float("-inf")).triu(1)[None, None]
