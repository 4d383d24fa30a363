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


KeysAndValues = tuple[Tensor, Tensor]
"""Of one layer, each of shape ``(1, key_heads, n_tokens, width)``."""


@dataclass
class Transcript:
    """What the layers of one forward said and what they hand on.

    Parameters
    ----------
    windows
        The sliding window of every layer that ran.
    prefix
        Keys and values of the prefix, layer by layer: handed in for a row that does not
        have its prefix, filled for one that does if `keeps_prefix`.
    keeps_prefix
        Whether to fill `prefix`; for rows of one user.
    """

    windows: dict[int, int | None] = field(default_factory=dict)
    prefix: dict[int, KeysAndValues] = field(default_factory=dict)
    keeps_prefix: bool = False


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
    transcript
        What goes from layer to caller and from an earlier call to a layer.
    """

    layout: Layout
    transcript: Transcript
    answers_only: bool = False
    takes_keys: bool = False
    kept: KeysAndValues | None = None

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
    transcript = call.transcript
    layer = int(getattr(module, "layer_idx", len(transcript.windows)))
    window: int | None = kwargs.get("sliding_window")
    transcript.windows[layer] = window
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    row = _Row(*(call.kept or (key, value)), scale, window, dropout, transcript.prefix.get(layer))
    if transcript.keeps_prefix:
        shared = call.layout.segments[0].shared
        # Copies: a slice would keep the whole row's keys alive.
        transcript.prefix[layer] = (row.key[:, :, shared].clone(), row.value[:, :, shared].clone())
    output = (
        _from_all(query, row, call.layout) if call.kept is None else _from_answers(query, row, call.layout)
    )
    return output.transpose(1, 2), None


def _refuse_unfit(module: nn.Module, features: dict[str, Any]) -> None:
    for name in ("softcap", "s_aux", "position_bias", "cache"):
        if features.get(name) is not None:
            message = f"{type(module).__name__} uses {name}, which packed rows do not compute"
            raise ModelError(message)
    if not getattr(module, "is_causal", True):
        message = f"{type(module).__name__} is not causal, which packed rows need"
        raise ModelError(message)


@dataclass(frozen=True, slots=True)
class _Row:
    """One layer's keys and values of a whole row, and how it attends."""

    key: Tensor
    value: Tensor
    scale: float
    window: int | None
    dropout: float
    held: KeysAndValues | None

    def at(self, places: slice) -> KeysAndValues:
        return self.key[:, :, places], self.value[:, :, places]


def _from_all(query: Tensor, row: _Row, layout: Layout) -> Tensor:
    """Attend from every token of the row."""
    parts = []
    for segment in layout.segments:
        if segment.middle > segment.start:
            own = query[:, :, segment.shared]
            parts.append(causal(own, *row.at(segment.shared), row.scale, row.window, row.dropout))
        parts.append(_from_runs(query[:, :, segment.suffixes], row, segment, segment.fold))
    return torch.cat(parts, dim=2)


def _from_answers(query: Tensor, row: _Row, layout: Layout) -> Tensor:
    """Attend from one query a candidate, which stands at the candidate's last token."""
    parts = []
    start = 0
    for segment in layout.segments:
        count = len(segment.fold.lengths)
        ends = Fold((1,) * count, query.device)
        parts.append(_from_runs(query[:, :, start : start + count], row, segment, ends))
        start += count
    return torch.cat(parts, dim=2)


def _from_runs(query: Tensor, row: _Row, segment: Segment, queries: Fold) -> Tensor:
    far, near = row.at(segment.shared), row.at(segment.suffixes)
    if segment.is_held and segment.prefix:
        if row.held is None:
            message = "the row has no prefix, and no keys of one were handed in"
            raise ModelError(message)
        far = row.held
    window = row.window
    if window is not None and segment.prefix + segment.fold.longest <= window:
        window = None
    if query.device.type == "cpu" and window is None and not row.dropout:
        return cascade(query, far, near, queries, segment.fold, row.scale)
    return masked(query, far, near, queries, segment.fold, row.scale, window, row.dropout)
