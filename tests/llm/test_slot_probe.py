from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from trsr.llm import slot_attention
from trsr.llm.slots import fit_slots

SMALL = {
    "vocab_size": 61,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
HEADS = {"intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
IDS = torch.tensor([[5, 9, 11, 3, 7]])


def qwen2(**settings: Any) -> Any:
    return Qwen2ForCausalLM(Qwen2Config(**SMALL, **HEADS, **settings)).eval()


def unsupported() -> list[Any]:
    return [
        Gemma2ForCausalLM(Gemma2Config(**SMALL, **HEADS, head_dim=8)).eval(),
        MambaForCausalLM(MambaConfig(**SMALL, state_size=4)).eval(),
        BloomForCausalLM(BloomConfig(**SMALL, n_head=4)).eval(),
    ]


@torch.inference_mode()
def logits(model: Any) -> torch.Tensor:
    found: torch.Tensor = model(IDS).logits
    return found


def test_a_fitted_model_computes_plain_calls_as_before() -> None:
    model = qwen2()
    before = logits(model)
    assert fit_slots(model) == ""
    torch.testing.assert_close(logits(model), before)


@pytest.mark.parametrize("place", [0, 1, 2], ids=["gemma2", "mamba", "bloom"])
def test_a_model_that_attends_otherwise_is_left_alone_and_the_reason_is_told(place: int) -> None:
    model = unsupported()[place]
    implementation, before = model.config._attn_implementation, logits(model)
    assert fit_slots(model)
    assert model.config._attn_implementation == implementation
    torch.testing.assert_close(logits(model), before)


def test_a_model_with_another_attention_is_left_alone() -> None:
    assert "'eager'" in fit_slots(qwen2(attn_implementation="eager"))


def test_a_model_whose_logits_would_be_wrong_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a model scales its scores by itself and the rows don't know it."""
    model = qwen2(initializer_range=0.5)
    right = slot_attention._attend_rows

    def unscaled(call: Any, query: Any, key: Any, value: Any, scaling: Any, window: Any) -> torch.Tensor:
        return right(call, query, key, value, 1.0, window)

    monkeypatch.setattr(slot_attention, "_attend_rows", unscaled)
    assert "off by" in fit_slots(model)
    assert model.config._attn_implementation == "sdpa"
