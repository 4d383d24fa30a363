"""Attention over two sets of keys, each by its own kernel call, joined exactly.

A softmax over keys A and B is the mean of the softmax over A and the softmax over B,
weighted by their sums of exponentials. Torch's flash kernel for CPUs returns the
logarithm of that sum beside its output, and its backward takes the joined output and
the joined logarithm, so that both directions run without building a mask or copying
the shared keys.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trsr.ranking.shared_prefix.layout import Fold

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class _Cascade(torch.autograd.Function):
    """Far keys are seen by every query in full, near keys only inside a query's own run."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        far_key: Tensor,
        far_value: Tensor,
        near_key: Tensor,
        near_value: Tensor,
        queries: Fold,
        keys: Fold,
        scale: float,
    ) -> Tensor:
        is_causal = queries is keys
        mask = _fill_mask(keys, query) if not is_causal and not keys.is_even else None
        near, near_sum = _forward(
            queries.fold(query),
            keys.fold(near_key),
            keys.fold(near_value),
            0.0,
            is_causal,
            attn_mask=mask,
            scale=scale,
        )
        output, total = queries.unfold(near), queries.unfold(near_sum)
        if far_key.shape[2]:
            far, far_sum = _forward(query, far_key, far_value, 0.0, False, scale=scale)
            weight = torch.sigmoid(far_sum - total).unsqueeze(-1)
            output = torch.lerp(output, far, weight.to(output.dtype))
            total = torch.logaddexp(far_sum, total)
        ctx.save_for_backward(query, far_key, far_value, near_key, near_value, output, total, mask)
        ctx.queries, ctx.keys, ctx.scale, ctx.is_causal = queries, keys, scale, is_causal
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, far_key, far_value, near_key, near_value, output, total, mask = ctx.saved_tensors
        queries, keys, (grad,) = ctx.queries, ctx.keys, grads
        folded_grad = queries.fold(grad)
        if not queries.is_even:
            # Fill repeats real tokens, so its gradient must not count a second time.
            folded_grad = folded_grad * queries.is_token[:, None, :, None]
        grad_query, grad_near_key, grad_near_value = _backward(
            folded_grad,
            queries.fold(query),
            keys.fold(near_key),
            keys.fold(near_value),
            queries.fold(output),
            queries.fold(total.unsqueeze(-1)).squeeze(-1),
            0.0,
            ctx.is_causal,
            attn_mask=mask,
            scale=ctx.scale,
        )
        grad_query = queries.unfold(grad_query)
        grad_near_key, grad_near_value = keys.unfold(grad_near_key), keys.unfold(grad_near_value)
        grad_far_key = grad_far_value = None
        if far_key.shape[2]:
            far_query, grad_far_key, grad_far_value = _backward(
                grad, query, far_key, far_value, output, total, 0.0, False, scale=ctx.scale
            )
            grad_query = grad_query + far_query
        return grad_query, grad_far_key, grad_far_value, grad_near_key, grad_near_value, None, None, None


def _fill_mask(keys: Fold, query: Tensor) -> Tensor:
    mask = torch.zeros(keys.is_token.shape, dtype=query.dtype, device=query.device)
    return mask.masked_fill_(~keys.is_token, -torch.inf)[:, None, None, :]


def cascade(
    query: Tensor,
    far: tuple[Tensor, Tensor],
    near: tuple[Tensor, Tensor],
    queries: Fold,
    keys: Fold,
    scale: float,
) -> Tensor:
    """Attend from runs of queries to shared far keys and to each run's own near keys.

    Parameters
    ----------
    query
        Shape ``(1, heads, n_queries, width)``.
    far
        Keys and values that every query sees, shape ``(1, key_heads, n_far, width)``;
        `n_far` may be 0.
    near
        Keys and values of the runs, shape ``(1, key_heads, n_near, width)``.
    queries
        The runs of the queries. The same object as `keys`: causal inside a run.
        Another: every query sees all keys of its run.
    keys
        The runs of the near keys.
    scale
        Factor of the products.

    Returns
    -------
    Tensor
        Shape ``(1, heads, n_queries, width)``; differentiable.
    """
    joined: Tensor = _Cascade.apply(query, *far, *near, queries, keys, scale)  # type: ignore[no-untyped-call]
    return joined
