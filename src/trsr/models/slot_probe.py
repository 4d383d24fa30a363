"""Which models can be decoded in slots: tried out when the model is loaded, not looked up."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from trsr.models.slot_attention import NAME, register
from trsr.models.slot_engine import SlotEngine

# Three prompts: the last two begin alike, so that taking over keys is tried too; all lengths differ.
_LENGTHS: Final = (9, 23, 30)
_ALIKE: Final = 20
_STEPS: Final = 3
# Largest deviation of logits that counts as rounding, as a share of their spread.
_ROUNDING: Final = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.15}


def fit_slots(model: Any) -> str:
    """Set the model's attention for slots when it computes what the model's own computes.

    Parameters
    ----------
    model
        A causal language model of transformers. Calls without slots stay what they were.

    Returns
    -------
    str
        Empty when the model was fitted; else why it wasn't, and then it is unchanged.
    """
    before = getattr(model.config, "_attn_implementation", None)
    if before != "sdpa":
        return f"its attention implementation is {before!r}, and slots replace 'sdpa' only"
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ()) - {
        "full_attention",
        "sliding_attention",
    }
    if kinds:
        return f"it has layers of {', '.join(sorted(kinds))}"
    prompts = _prompts(model)
    try:
        wanted = [_own_logits(model, prompt) for prompt in prompts]
        register()
        model.set_attn_implementation(NAME)
        problem = _deviation(model, prompts, wanted)
    # Models fail here in as many ways as there are models, and all of them mean the same.
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    if problem:
        model.set_attn_implementation(before)
    return problem


def _prompts(model: Any) -> list[list[int]]:
    vocabulary = model.config.get_text_config().vocab_size
    stream = torch.Generator().manual_seed(0)
    ids = torch.randint(vocabulary, (len(_LENGTHS), max(_LENGTHS)), generator=stream)
    ids[2, :_ALIKE] = ids[1, :_ALIKE]
    return [row[:length].tolist() for row, length in zip(ids, _LENGTHS, strict=True)]


@torch.inference_mode()
def _own_logits(model: Any, prompt: list[int]) -> Tensor:
    """Decode a few steps without any cache; return float32 logits ``(steps, vocabulary)``."""
    row, found = list(prompt), []
    for _ in range(_STEPS):
        found.append(model(torch.tensor([row], device=model.device)).logits[0, -1].float())
        row.append(int(found[-1].argmax()))
    return torch.stack(found)


def _deviation(model: Any, prompts: list[list[int]], wanted: list[Tensor]) -> str:
    engine = SlotEngine(model, len(prompts))
    for number, prompt in enumerate(prompts):
        engine.admit([(number, prompt)], _STEPS)
    expected = sum(_LENGTHS) - len(_LENGTHS) - _ALIKE
    if engine.prompt_tokens_computed != expected:
        return f"{engine.prompt_tokens_computed} prompt tokens were computed in place of {expected}"
    for step in range(_STEPS):
        logits = engine.logits()
        for row, own in zip(logits, wanted, strict=True):
            error = float((row - own[step]).abs().max() / own[step].std().clamp(min=1e-6))
            if not error <= _ROUNDING.get(model.dtype, 1e-3):
                return f"its logits in slots are off by {error:.1e} of their spread"
        engine.take([int(own[step].argmax()) for own in wanted])
    return _unlike_attention(model, engine)


def _unlike_attention(model: Any, engine: SlotEngine) -> str:
    """Check that every layer went through the slots' attention and told its window."""
    config, call = model.config.get_text_config(), engine.last_call
    if call is None or call.layers != config.num_hidden_layers:
        return "not every layer calls the attention that was set"
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    slides = window is not None and (kinds is None or "sliding_attention" in kinds)
    if slides and window not in call.windows:
        return f"its sliding window of {window} does not reach the attention that was set"
    return ""
