"""Fits stock transformers models with the attention of packed rows, and takes it off again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from trsr.errors import ModelError
from trsr.ranking.shared_prefix.attention import ARGUMENT, NAME, KeysTaken, PackedCall, register


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
