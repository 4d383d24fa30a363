"""The attention function of packed rows, in the form that transformers' models call."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from trsr.errors import ModelError
from trsr.ranking.shared_prefix.cascade import cascade
from trsr.ranking.shared_prefix.layout import Fold, Layout, Segment
from trsr.ranking.shared_prefix.masked import causal, masked

NAME: Final = "trsr_shared_prefix"
"""The attention implementation's name, as models' configurations know it."""

ARGUMENT: Final = "shared_prefix"
"""The keyword of a model's forward that carries the call's row."""


class KeysTaken(Exception):
    """Ends a layer's forward early: its keys and values are all that was wanted."""

    def __init__(self, key: Tensor, value: Tensor) -> None:
        self.key = key
        self.value = value


@dataclass(frozen=True)
class PackedCall:
    """What one forward of a packed row tells the attention function, and hears from it.

    Parameters
    ----------
    layout
        The row.
    answers_only
        Compute the last layer at the answer slots only.
    takes_keys
        Stop at the first attention and hand over its keys and values.
    kept
        Keys and values of the whole row, when the queries stand at the answer slots only.
    windows
        Filled by the call: the sliding window of every layer that ran.
    """

    layout: Layout
    answers_only: bool = False
    takes_keys: bool = False
    kept: tuple[Tensor, Tensor] | None = None
    windows: dict[int, int | None] = field(default_factory=dict)

    def wanting_keys(self) -> PackedCall:
        """Return the call that stops at the keys."""
        return replace(self, takes_keys=True)

    def at_answers(self, key: Tensor, value: Tensor) -> PackedCall:
        """Return the call whose queries stand at the answer slots."""
        return replace(self, kept=(key, value))


def register() -> None:
    """Make the attention function known to transformers; calling it again changes nothing."""
    AttentionInterface.register(NAME, packed_attention)
    # Rows that are not packed get the masks they always had.
    AttentionMaskInterface.register(NAME, sdpa_mask)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend inside a packed row, or as torch's own attention does when the call is not packed.

    Parameters
    ----------
    module
        The model's attention layer.
    query
        Shape ``(1, heads, n_tokens, width)``, or one query a candidate in the last layer.
    key, value
        Shape ``(1, key_heads, n_tokens, width)``.
    attention_mask
        Not looked at when packed.
    scaling
        Factor of the products; None: ``width ** -0.5``.
    dropout
        Share of attention weights to drop.
    **kwargs
        What the model passes on: `shared_prefix` with the `PackedCall`, the layer's
        `sliding_window`, and features that can make the layer unfit.

    Returns
    -------
    tuple
        Output of shape ``(1, n_tokens, heads, width)``, and None for the weights.
    """
    call: PackedCall | None = kwargs.pop(ARGUMENT, None)
    if call is None:
        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return output, None
    _refuse_unfit(module, kwargs)
    if call.takes_keys:
        raise KeysTaken(key, value)
    window: int | None = kwargs.get("sliding_window")
    call.windows[int(getattr(module, "layer_idx", len(call.windows)))] = window
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if call.kept is not None:
        output = _from_answers(query, *call.kept, call.layout, scale, window, dropout)
    else:
        output = _from_all(query, key, value, call.layout, scale, window, dropout)
    return output.transpose(1, 2), None


def _refuse_unfit(module: nn.Module, features: dict[str, Any]) -> None:
    for name in ("softcap", "s_aux", "position_bias", "cache"):
        if features.get(name) is not None:
            message = f"{type(module).__name__} uses {name}, which packed rows do not compute"
            raise ModelError(message)
    if not getattr(module, "is_causal", True):
        message = f"{type(module).__name__} is not causal, which packed rows need"
        raise ModelError(message)


def _from_all(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    scale: float,
    window: int | None,
    dropout: float,
) -> Tensor:
    """Attend from every token of the row."""
    parts = []
    for segment in layout.segments:
        prefix = segment.shared
        if segment.prefix:
            shared = (query[:, :, prefix], key[:, :, prefix], value[:, :, prefix])
            parts.append(causal(*shared, scale, window, dropout))
        own = query[:, :, segment.suffixes]
        parts.append(_from_runs(own, key, value, segment, segment.fold, scale, window, dropout))
    return torch.cat(parts, dim=2)


def _from_answers(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    scale: float,
    window: int | None,
    dropout: float,
) -> Tensor:
    """Attend from one query a candidate, which stands at the candidate's last token."""
    parts = []
    start = 0
    for segment in layout.segments:
        count = len(segment.fold.lengths)
        own = query[:, :, start : start + count]
        ends = Fold((1,) * count, query.device)
        parts.append(_from_runs(own, key, value, segment, ends, scale, window, dropout))
        start += count
    return torch.cat(parts, dim=2)


def _from_runs(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    segment: Segment,
    queries: Fold,
    scale: float,
    window: int | None,
    dropout: float,
) -> Tensor:
    far = (key[:, :, segment.shared], value[:, :, segment.shared])
    near = (key[:, :, segment.suffixes], value[:, :, segment.suffixes])
    if window is not None and segment.prefix + segment.fold.longest <= window:
        window = None
    if query.device.type == "cpu" and window is None and not dropout:
        return cascade(query, far, near, queries, segment.fold, scale)
    return masked(query, far, near, queries, segment.fold, scale, window, dropout)
