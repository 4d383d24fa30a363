"""Low-rank adapters: where they go, and proof that they do something."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from trsr.config.ranking import Lora
from trsr.errors import ModelError

_QUERIES: Final = frozenset({"q_proj", "k_proj", "v_proj", "qkv_proj", "query_key_value", "c_attn", "Wqkv"})
_OUTPUTS: Final = frozenset({"o_proj", "out_proj"})
"""Names that architectures give their attention projections, one by one or fused."""


def attention_targets(model: PreTrainedModel) -> tuple[str, ...]:
    """Return the names of the model's attention projections: q, k, v, o, or the fused one.

    Raises
    ------
    ModelError
        When none of the known names is there, with the names that are.
    """
    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    # Layers without attention also have output projections, so those alone tell nothing.
    if names.isdisjoint(_QUERIES):
        modules = model.named_modules()
        linear = sorted({name.rpartition(".")[2] for name, part in modules if isinstance(part, nn.Linear)})
        message = (
            f"training.lora.targets: no known attention projection in {type(model).__name__}; "
            f"name modules to adapt out of: {', '.join(linear)}"
        )
        raise ModelError(message)
    return tuple(sorted(names & (_QUERIES | _OUTPUTS)))


def add_adapter(model: PreTrainedModel, settings: Lora) -> PeftModel:
    """Put fresh LoRA adapters onto the model and freeze everything else.

    Raises
    ------
    ModelError
        When no module has the names of `settings.targets`.
    """
    targets = settings.targets or attention_targets(model)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(targets),
        task_type="CAUSAL_LM",
        fan_in_fan_out=model.config.model_type == "gpt2",
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        message = f"training.lora.targets: {error}"
        raise ModelError(message) from error


def save_base(model: PeftModel, folder: Path) -> None:
    """Write the weights under the adapter, as they were before it was put on."""
    base = cast(PreTrainedModel, model.get_base_model())
    weights = {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in base.state_dict().items()
        if ".lora_" not in name
    }
    base.save_pretrained(folder, state_dict=weights)


def require_effect(model: PeftModel, probe: Sequence[int]) -> None:
    """Check that the adapter changes what the model says.

    Parameters
    ----------
    model
        The base model with its adapter.
    probe
        Token ids of any prompt.

    Raises
    ------
    ModelError
        When the logits are the same with and without it.
    """
    ids = torch.tensor([list(probe)], device=model.device)
    with torch.inference_mode():
        adapted = model(input_ids=ids, use_cache=False).logits[0, -1]
        with model.disable_adapter():
            plain = model(input_ids=ids, use_cache=False).logits[0, -1]
    if torch.equal(adapted, plain):
        message = (
            "the adapter doesn't change the model's logits: it was never trained, or it belongs to another "
            "base model; train again with `trsr train`"
        )
        raise ModelError(message)
