"""Keys and values of many prompts at once, each in a row of its own, and the attention that reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.cache_utils import Cache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from trsr.errors import ModelError

NAME: Final = "trsr_slots"
"""Under which the attention is registered with transformers."""
ARGUMENT: Final = "trsr_slot_call"
"""Keyword of a model's forward that carries the `SlotCall`."""

# Rows grow by so many tokens at least, for growing copies all of them.
_STEP: Final = 128

# Tokens of a prompt that attend in one call.
_PART: Final = 64

# What some models hand to their attention and this one doesn't compute.
_REFUSED: Final = ("softcap", "s_aux", "position_bias", "head_mask")


class KeysWritten(Exception):
    """Leaves a forward after its last layer's keys and values are written."""


class SlotCall:
    """One forward over so many consecutive tokens of several rows, padding included, each from its start on.

    The first `width` places of a row are read. With `last_layer`, the forward is over once so many layers
    have their keys and values.
    """

    def __init__(
        self,
        starts: Sequence[int],
        tokens: int,
        width: int,
        device: torch.device,
        *,
        last_layer: int | None = None,
    ) -> None:
        self.places = torch.tensor(starts, device=device)[:, None] + torch.arange(tokens, device=device)
        self.width = width
        self.last_layer = last_layer
        self.layers = 0
        self.windows: set[int | None] = set()
        self._furthest = max(starts)
        self._masks: dict[tuple[int, int, int | None], Tensor] = {}

    def parts(self) -> Iterator[tuple[slice, int]]:
        """Cut the tokens into parts, each with what it can see: little that is hidden is computed."""
        tokens = self.places.shape[1]
        for begin in range(0, tokens, _PART):
            end = min(begin + _PART, tokens)
            yield slice(begin, end), min(self.width, self._furthest + end)

    def mask(self, part: slice, width: int, group: int, window: int | None, dtype: torch.dtype) -> Tensor:
        """Let every token see the places up to its own, shape ``(rows, 1, group * tokens, width)``."""
        key = (part.start, group, window)
        if key not in self._masks:
            keys, own = torch.arange(width, device=self.places.device), self.places[:, part, None]
            hidden = keys > own
            if window is not None:
                hidden |= keys <= own - window
            bias = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
            bias.masked_fill_(hidden, -torch.inf)
            rows, tokens, _ = bias.shape
            spread = bias[:, None, None].expand(rows, 1, group, tokens, width)
            self._masks[key] = spread.reshape(rows, 1, group * tokens, width)
        return self._masks[key]


class SlotMemory(Cache):
    """Keys and values by row (a prompt) and place, written where they stay: none moves when a row grows."""

    def __init__(self, rows: int) -> None:
        super().__init__(layers=[])
        self.rows = rows
        self.capacity = 0
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}
        self._flat = torch.empty(0, dtype=torch.long)
        self._read = slice(0)
        self._width = 0

    def reserve(self, capacity: int) -> None:
        """Make every row long enough for so many tokens."""
        if capacity <= self.capacity:
            return
        before = self.capacity
        self.capacity = -(-capacity // _STEP) * _STEP
        for layer, pair in self._kept.items():
            keys, values = (self._empty(kept.transpose(1, 2)) for kept in pair)
            keys[:, :before], values[:, :before] = pair
            self._kept[layer] = (keys, values)

    def aim(self, first: int, call: SlotCall) -> None:
        """Say into which rows, from `first` on, the next forward writes."""
        count = call.places.shape[0]
        rows = torch.arange(first, first + count, device=call.places.device)
        # Only padding lies beyond the last place, and nobody reads it.
        self._flat = (rows[:, None] * self.capacity + call.places.clamp(max=self.capacity - 1)).flatten()
        self._read = slice(first, first + count)
        self._width = call.width

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write new keys and values; return all of the rows, shape ``(rows, heads, width, dim)``."""
        if layer_idx not in self._kept:
            self._kept[layer_idx] = (self._empty(key_states), self._empty(value_states))
        keys, values = self._kept[layer_idx]
        for kept, new in ((keys, key_states), (values, value_states)):
            flat = kept.view(self.rows * self.capacity, -1)
            flat.index_copy_(0, self._flat, new.transpose(1, 2).reshape(len(self._flat), -1))
        return (
            keys[self._read, : self._width].transpose(1, 2),
            values[self._read, : self._width].transpose(1, 2),
        )

    def copy(self, source: int, target: int, length: int) -> None:
        """Give a row the first places of another."""
        if source == target or not length:
            return
        for pair in self._kept.values():
            for kept in pair:
                kept[target, :length] = kept[source, :length]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return 0: positions are always given, and rows differ in length."""
        return 0

    def _empty(self, states: Tensor) -> Tensor:
        # Zeros, for a hidden place still takes part in a product with weight 0.
        shape = (self.rows, self.capacity, states.shape[1], states.shape[3])
        return torch.zeros(shape, dtype=states.dtype, device=states.device)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend row by row; whatever is no call of rows is computed as torch's attention does.

    Heads that share keys are folded into the tokens' axis, so that keys are never
    copied for each of them.
    """
    call: SlotCall | None = kwargs.pop(ARGUMENT, None)
    if call is None:
        output, _ = sdpa_attention_forward(
            module,
            query,
            key,
            value,
            attention_mask,
            dropout=dropout,
            scaling=scaling,
            sliding_window=sliding_window,
            **kwargs,
        )
        return output, None
    for name in _REFUSED:
        if kwargs.get(name) is not None:
            message = f"{type(module).__name__} attends with {name}, which rows of slots don't compute"
            raise ModelError(message)
    call.layers += 1
    call.windows.add(sliding_window)
    if call.layers == call.last_layer:
        raise KeysWritten
    return _attend_rows(call, query, key, value, scaling, sliding_window), None


def _attend_rows(
    call: SlotCall, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None
) -> Tensor:
    rows, heads, tokens, dim = query.shape
    shared, group = key.shape[1], heads // key.shape[1]
    by_key = query.view(rows, shared, group, tokens, dim)
    outputs = []
    for part, width in call.parts():
        folded = by_key[:, :, :, part].reshape(rows, shared, -1, dim)
        mask = call.mask(part, width, group, window, query.dtype)
        output = functional.scaled_dot_product_attention(
            folded, key[:, :, :width], value[:, :, :width], attn_mask=mask, scale=scaling
        )
        outputs.append(output.view(rows, heads, part.stop - part.start, -1))
    joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)
    return joined.transpose(1, 2).contiguous()


def register() -> None:
    """Make the attention known to transformers; a second time changes nothing."""
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
