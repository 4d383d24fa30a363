"""Low-rank adapters: where they go, how they are read and merged, and proof that they do something."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeGuard, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from trsr.config.ranking import Lora
from trsr.errors import ModelError

if TYPE_CHECKING:
    from peft import PeftModel

_QUERIES: Final = frozenset({"q_proj", "k_proj", "v_proj", "qkv_proj", "query_key_value", "c_attn", "Wqkv"})
_OUTPUTS: Final = frozenset({"o_proj", "out_proj"})
"""Names that architectures give their attention projections, one by one or fused."""


def _peft() -> Any:
    """Load PEFT, which takes longer to load than a small model to answer: only where there is an adapter."""
    return importlib.import_module("peft")


def has_adapter(model: object) -> TypeGuard[PeftModel]:
    """Say whether the model is one with an adapter on it."""
    return "peft" in sys.modules and isinstance(model, _peft().PeftModel)


def adapter_settings(folder: Path) -> Any:
    """Read the ``adapter_config.json`` of a folder."""
    return _peft().PeftConfig.from_pretrained(str(folder))


def attention_targets(model: PreTrainedModel) -> tuple[str, ...]:
    """Return the names of the model's attention projections: q, k, v, o, or the fused one.

    Raises ModelError, with the names that are there, when none of the known names is.
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

    Of a model with weights of 8 or 4 bits all other weights become float32 first, as QLoRA has it.

    Raises ModelError when no module has the names of `settings.targets`.
    """
    targets = settings.targets or attention_targets(model)
    config = _peft().LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(targets),
        task_type="CAUSAL_LM",
        fan_in_fan_out=model.config.model_type == "gpt2",
    )
    if getattr(model, "is_loaded_in_8bit", False) or getattr(model, "is_loaded_in_4bit", False):
        # Checkpointing is the trainer's, by training.gradient_checkpointing.
        model = _peft().prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    try:
        adapted: PeftModel = _peft().get_peft_model(model, config)
        return _nameless(adapted)
    except ValueError as error:
        message = f"training.lora.targets: {error}"
        raise ModelError(message) from error


def train_adapter(model: PeftModel) -> None:
    """Let the weights of an adapter that was read be trained on, and no others."""
    for name, parameter in _nameless(model).named_parameters():
        parameter.requires_grad_(".lora_" in name)


def _nameless(model: PeftModel) -> PeftModel:
    """Let no checkpoint look the base up on a hub by its name; who saves the adapter names the base."""
    model.peft_config["default"].base_model_name_or_path = None
    return model


def load_adapter(base: PreTrainedModel, folder: Path) -> PeftModel:
    """Put an adapter that was saved onto its base, and see that all of it goes somewhere.

    Raises ModelError when it is no adapter of a causal language model's weights, or its weights don't fit the
    base, with their names.
    """
    config = adapter_settings(folder)
    kind = getattr(config.peft_type, "value", config.peft_type)
    if config.task_type not in (None, "CAUSAL_LM") or config.is_prompt_learning or config.is_adaption_prompt:
        message = (
            f"{folder}: an adapter of kind {kind} for task {config.task_type} can't be merged into a causal "
            "language model; take a LoRA adapter of task CAUSAL_LM"
        )
        raise ModelError(message)
    adapted: PeftModel = _peft().PeftModelForCausalLM(base, config)
    try:
        found = adapted.load_adapter(str(folder), "default")
    except RuntimeError as error:  # another shape
        wrong = " ".join(str(error).split())
    else:
        lost = {"missing": found.missing_keys, "left over": found.unexpected_keys}
        wrong = "; ".join(f"{label}: {', '.join(keys[:4])}" for label, keys in lost.items() if keys)
    if wrong:
        message = (
            f"{folder}: the adapter's weights don't fit its base model ({wrong[:600]}); give it its own base"
        )
        raise ModelError(message)
    return adapted.eval()


def merge_adapter(model: PeftModel) -> PreTrainedModel:
    """Add the adapter to the weights below it.

    Raises ModelError when adapters of its kind can't be merged, or the sum isn't finite.
    """
    try:
        merged: PreTrainedModel = model.merge_and_unload(safe_merge=True)
    except (AttributeError, NotImplementedError, TypeError, ValueError) as error:
        kind = getattr(model.peft_config["default"].peft_type, "value", "")
        message = f"an adapter of kind {kind} can't be merged into its model ({error}); merge it yourself"
        raise ModelError(message) from error
    # The adapter froze them; a merged model is as any other, and all of it may be trained.
    return merged.requires_grad_(True)


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
    """Check that the adapter changes what the model says to a probe, the token ids of any prompt.

    Raises ModelError when the logits are the same with and without it.
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
