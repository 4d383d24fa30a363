"""Attention of candidates over [prefix, own tokens] by public torch calls, with a mask by position.

The form for sliding windows, attention dropout and devices without the CPU's kernel.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from trsr.ranking.shared_prefix.layout import Fold

_GROUP_KEYS: Final = 16_384
"""Keys that are laid out at once: bounds the copies of the prefix."""


def causal(
    query: Tensor, key: Tensor, value: Tensor, scale: float, window: int | None, dropout: float
) -> Tensor:
    """Attend causally, inside a window if one is given; shapes ``(1, heads, n_tokens, width)``."""
    mask = None
    if window is not None and query.shape[2] > window:
        steps = torch.arange(query.shape[2], device=query.device)
        mask = _visible(steps, steps, window)
    return _attend(query, key, value, mask, scale, dropout, is_causal=mask is None)


def masked(
    query: Tensor,
    far: tuple[Tensor, Tensor],
    near: tuple[Tensor, Tensor],
    queries: Fold,
    keys: Fold,
    scale: float,
    window: int | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attend as `cascade` does, inside a window of positions if one is given.

    Parameters
    ----------
    query, far, near, queries, keys, scale
        As in `cascade`; where `queries` are not the same runs as `keys`, each run has
        one query, which stands at its run's last position.
    window
        Positions that a query sees, its own included; None: all before it.
    dropout
        Share of attention weights to drop.
    """
    prefix = far[0].shape[2]
    device = query.device
    # Keys that even the first query of a run can't see are not worth copying.
    reach = prefix if window is None else min(prefix, window - 1)
    far_key, far_value = (part[:, :, prefix - reach :] for part in far)
    near_key, near_value = (keys.fold(part) for part in near)
    runs = queries.fold(query)
    at = torch.arange(keys.longest, device=device)[None]
    if queries is not keys:
        at = torch.tensor(keys.lengths, device=device)[:, None] - 1
    mask = _visible(prefix + at, torch.arange(prefix - reach, prefix + keys.longest, device=device), window)[
        :, None
    ]
    size = max(1, _GROUP_KEYS // (reach + keys.longest))
    outputs = []
    for start in range(0, len(keys.lengths), size):
        part = slice(start, start + size)
        count = len(keys.lengths[part])
        outputs.append(
            _attend(
                runs[part],
                torch.cat([far_key.expand(count, -1, -1, -1), near_key[part]], dim=2),
                torch.cat([far_value.expand(count, -1, -1, -1), near_value[part]], dim=2),
                mask[part] if mask.shape[0] > 1 else mask,
                scale,
                dropout,
            )
        )
    return queries.unfold(torch.cat(outputs))


def _visible(query_at: Tensor, key_at: Tensor, window: int | None) -> Tensor:
    distance = query_at[..., :, None] - key_at
    visible = distance >= 0
    return visible if window is None else visible & (distance < window)


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scale: float,
    dropout: float,
    is_causal: bool = False,
) -> Tensor:
    groups = query.shape[1] // key.shape[1]
    if groups > 1 and query.device.type != "cpu":
        # Masked attention of grouped heads would take the slow kernel there.
        key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
        groups = 1
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=is_causal,
        scale=scale,
        enable_gqa=groups > 1,
    )
