"""Attention in which candidates see the prefix and themselves, and how a model is given it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.hooks import RemovableHandle
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_layers import GradientCheckpointingLayer

from trsr.errors import ModelError
from trsr.ranking.shared_prefix.layout import Fold, Layout

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
        Of the prefix, layer by layer: handed in for a row that does not have its prefix, filled for one
        that does if `keeps_prefix` (for rows of one user).
    """

    windows: dict[int, int | None] = field(default_factory=dict)
    prefix: dict[int, KeysAndValues] = field(default_factory=dict)
    keeps_prefix: bool = False


@dataclass(frozen=True)
class PackedCall:
    """What one forward of a packed row tells the attention function, and hears from it.

    Parameters
    ----------
    answers_only
        Compute the last layer at the answer slots only.
    takes_keys
        Stop at the first attention and hand over its keys and values.
    kept
        Keys and values of the whole row, when the queries stand at the answer slots only.
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

    A row's `query` is ``(1, heads, n_tokens, width)``, or has one query a candidate in the last layer; `key`
    and `value` are ``(1, key_heads, n_tokens, width)``; the mask is not looked at. `scaling` None is ``width
    ** -0.5``. `kwargs` is what the model passes on: `shared_prefix` with the `PackedCall`, the layer's
    `sliding_window`, and features that can make the layer unfit. The output is ``(1, n_tokens, heads,
    width)``, and None for the weights.
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
    output = _attend(query, row, call.layout, at_answers=call.kept is not None)
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


def _attend(query: Tensor, row: _Row, layout: Layout, *, at_answers: bool) -> Tensor:
    """Attend from every token of the row, or from one query a candidate, at the candidate's last token."""
    window = row.window
    if window is not None and layout.longest <= window:
        window = None
    if query.device.type != "cpu" or window is not None or row.dropout:
        # A GPU is quickest with few large products: one for all users, instead of two for each.
        return gridded(query, row, layout, window, at_answers=at_answers)
    return torch.cat(list(_by_user(query, row, layout, at_answers=at_answers)), dim=2)


def _by_user(query: Tensor, row: _Row, layout: Layout, *, at_answers: bool) -> Iterator[Tensor]:
    start = 0
    for segment in layout.segments:
        if at_answers:
            runs = Fold((1,) * len(segment.fold.lengths), query.device)
            own = query[:, :, start : start + len(runs.lengths)]
            start += len(runs.lengths)
        else:
            runs, own = segment.fold, query[:, :, segment.suffixes]
            if segment.middle > segment.start:
                shared = query[:, :, segment.shared]
                yield scaled_dot_product_attention(
                    shared, *row.at(segment.shared), is_causal=True, scale=row.scale, enable_gqa=True
                )
        far = row.at(segment.shared)
        if segment.is_held and segment.prefix:
            far = _handed(row)
        yield cascade(own, far, row.at(segment.suffixes), runs, segment.fold, row.scale)


def _handed(row: _Row) -> KeysAndValues:
    if row.held is None:
        message = "the row has no prefix, and no keys of one were handed in"
        raise ModelError(message)
    return row.held


def gridded(query: Tensor, row: _Row, layout: Layout, window: int | None, *, at_answers: bool) -> Tensor:
    """Attend with one product for the whole row, its users under each other; differentiable.

    `query` and the output are ``(1, heads, n_queries, width)``. Whatever a query may not see is computed and
    left out: what that costs on a GPU is less than what many small products would. `window` counts the
    positions that a query sees, its own included; None: all before it.
    """
    users = layout.users
    queries = layout.slots if at_answers else users
    key, value = users.fold(row.key), users.fold(row.value)
    if layout.segments[0].is_held and layout.segments[0].prefix:
        key, value = (
            torch.cat([far.expand(len(near), -1, -1, -1), near], dim=2)
            for far, near in zip(_handed(row), (key, value), strict=True)
        )
    groups = query.shape[1] // key.shape[1]
    if groups > 1 and query.device.type != "cpu":
        # Masked attention of grouped heads would take the slow kernel there.
        key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
    output = scaled_dot_product_attention(
        queries.fold(query),
        key,
        value,
        attn_mask=layout.visible(window, at_answers=at_answers),
        dropout_p=row.dropout,
        scale=row.scale,
        enable_gqa=key.shape[1] != query.shape[1],
    )
    return queries.unfold(output)


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
    """Attend from runs of queries to shared far keys and to each run's own near keys; differentiable.

    `query` and the output are ``(1, heads, n_queries, width)``.

    Parameters
    ----------
    far
        Keys and values that every query sees, ``(1, key_heads, n_far, width)``; `n_far` may be 0.
    near
        Keys and values of the runs, ``(1, key_heads, n_near, width)``.
    queries
        The same object as `keys`: causal inside a run. Another: every query sees all keys of its run.
    scale
        Factor of the products.
    """
    joined: Tensor = _Cascade.apply(query, *far, *near, queries, keys, scale)  # type: ignore[no-untyped-call]
    return joined


class Attachment:
    """A model's fitting; the model computes what is not packed as it did before.

    The model is a causal language model whose attention is torch's (`sdpa`), adapters included. The attention
    implementation stays set for good, not for a call, because gradient checkpointing runs layers again when
    the call is over. Raises `ModelError` when it can't be set.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = pretrained(model)
        last = layers_of(self._model)[-1]
        before = self._model.config._attn_implementation
        if before not in ("sdpa", NAME):
            message = f"its attention implementation is {before!r}, and packed rows replace 'sdpa' only"
            raise ModelError(message)
        register()
        self._model.set_attn_implementation(NAME)
        if self._model.config._attn_implementation != NAME:
            message = f"{type(self._model).__name__} does not let its attention be set"
            raise ModelError(message)
        self._handle: RemovableHandle = last.register_forward_pre_hook(_keep_answers, with_kwargs=True)

    def detach(self) -> None:
        """Give the model its own attention back."""
        self._handle.remove()
        self._model.set_attn_implementation("sdpa")


def layers_of(model: PreTrainedModel) -> nn.ModuleList:
    """Return the decoder's layers; raises `ModelError` when it is not clear which modules they are."""
    count = model.config.get_text_config().num_hidden_layers
    found = [
        module
        for module in model.modules()
        if isinstance(module, nn.ModuleList)
        and len(module) == count
        and all(isinstance(layer, GradientCheckpointingLayer) for layer in module)
    ]
    if len(found) != 1:
        message = (
            f"{type(model).__name__} has {len(found)} lists of {count} decoder layers, and must have one"
        )
        raise ModelError(message)
    return found[0]


def pretrained(model: nn.Module) -> PreTrainedModel:
    """Return the transformers model inside adapters and wrappers."""
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            return module
    message = f"{type(model).__name__} holds no transformers model"
    raise ModelError(message)


def _keep_answers(
    layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Let the last layer run at the answer slots only, over the keys of the whole row."""
    call: PackedCall | None = kwargs.get(ARGUMENT)
    if call is None or not call.answers_only or call.kept is not None:
        return None
    hidden: Tensor = args[0] if args else kwargs["hidden_states"]
    key, value = _keys(layer, args, {**kwargs, ARGUMENT: call.wanting_keys()})
    places, tokens = call.layout.answers, hidden.shape[1]
    args = tuple(_at(places, part, tokens) for part in args)
    kwargs = {name: _at(places, part, tokens) for name, part in kwargs.items()}
    kwargs[ARGUMENT] = call.at_answers(key, value)
    return args, kwargs


def _keys(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Tensor]:
    # Checkpointing the last layer never saves memory: it would be computed again while everything else is
    # still held. Here it would also lose the way from the keys back to the layers below.
    layer.gradient_checkpointing = False  # type: ignore[assignment]
    try:
        layer.forward(*args, **kwargs)
    except KeysTaken as taken:
        return taken.key, taken.value
    message = f"{type(layer).__name__} does not call the attention function that was set"
    raise ModelError(message)


def _at(places: Tensor, part: Any, tokens: int) -> Any:
    """Pick the rows at `places` of whatever runs along the tokens: states, positions, rotations."""
    if isinstance(part, tuple):
        return tuple(_at(places, inner, tokens) for inner in part)
    if isinstance(part, torch.Tensor) and part.ndim >= 2 and part.shape[1] == tokens:
        return part.index_select(1, places)
    return part
