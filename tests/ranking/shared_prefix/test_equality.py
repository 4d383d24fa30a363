"""Packed rows against one prompt per candidate, for every supported architecture."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import small_models
import torch
from peft import LoraConfig, get_peft_model
from small_models import ANSWERS, PACKED, SHAPES, make, one_by_one, users
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from transformers import AttentionInterface

from trsr.ranking.shared_prefix.attention import NAME, Attachment, packed_attention
from trsr.ranking.shared_prefix.forward import packed_logits
from trsr.ranking.shared_prefix.layout import UserPrompts, pack


def packed(model: nn.Module, people: list[UserPrompts], *, trims: bool = True) -> Tensor:
    return packed_logits(model, pack(people), ANSWERS, trims=trims)


def gradients(model: nn.Module, logits: Callable[[], Tensor]) -> Tensor:
    """The gradient of a loss in which every logit counts differently, as one vector."""
    model.zero_grad()
    values = logits()
    weights = torch.linspace(-1, 2, values.numel()).sin().view(values.shape)
    (values * weights).sum().backward()
    return torch.cat(
        [
            torch.zeros(parameter.numel()) if parameter.grad is None else parameter.grad.flatten().clone()
            for parameter in model.parameters()
            if parameter.requires_grad
        ]
    )


def with_lora(model: nn.Module) -> nn.Module:
    targets = r".*(q_proj|k_proj|v_proj|o_proj|out_proj|qkv_proj|query_key_value|dense)"
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM"))
    generator = torch.Generator().manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return adapted


@pytest.mark.parametrize("architecture", PACKED)
def test_scores_are_those_of_single_prompts(architecture: str) -> None:
    model = make(PACKED[architecture])
    with torch.no_grad():
        expected = {shape: one_by_one(model, people) for shape, people in SHAPES.items()}
        Attachment(model)
        for shape, people in SHAPES.items():
            for trims in (False, True):
                error = (packed(model, people, trims=trims) - expected[shape]).abs().max()
                assert error < 1e-5, (shape, trims)
            # What is not packed is computed as before, to the last bit.
            assert torch.equal(one_by_one(model, people), expected[shape]), shape


@pytest.mark.parametrize("architecture", PACKED)
@pytest.mark.parametrize("shape", ["several users"])
def test_lora_gradients_are_those_of_single_prompts(architecture: str, shape: str) -> None:
    model = with_lora(make(PACKED[architecture]))
    expected = gradients(model, lambda: one_by_one(model, SHAPES[shape]))
    Attachment(model)
    for trims in (False, True):
        got = gradients(model, lambda trims=trims: packed(model, SHAPES[shape], trims=trims))
        assert cosine_similarity(got.double(), expected.double(), dim=0) > 0.99999
        assert (got - expected).norm() < 1e-4 * expected.norm()


@pytest.mark.parametrize("architecture", ["qwen2", "gemma3", "opt", "gpt-neox"])
@pytest.mark.parametrize("reentrant", [False, True])
def test_full_gradients_with_checkpointing(architecture: str, reentrant: bool) -> None:
    model = make(PACKED[architecture], attn_implementation="sdpa")
    people = SHAPES["ragged"]
    expected = gradients(model, lambda: one_by_one(model, people))
    Attachment(model)
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    model.train()
    got = gradients(model, lambda: packed(model, people))
    assert (got - expected).norm() < 1e-4 * expected.norm()


def test_attention_dropout_takes_the_masked_form_and_keeps_the_mean() -> None:
    model = make(PACKED["llama"])
    expected = one_by_one(model, SHAPES["ragged"]).detach()
    Attachment(model)
    for module in model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.02
    model.train()
    torch.manual_seed(0)
    with torch.no_grad():
        draws = torch.stack([packed(model, SHAPES["ragged"]) for _ in range(60)])
    assert draws.std(0).min() > 0
    assert (draws.mean(0) - expected).abs().max() < 0.2 * expected.std()


def test_the_packed_attention_runs_once_a_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []

    def counting(module: nn.Module, query: Tensor, *args: object, **kwargs: object) -> tuple[Tensor, None]:
        rows.append(query.shape[2])
        return packed_attention(module, query, *args, **kwargs)  # type: ignore[arg-type]

    model = make(PACKED["qwen2"])
    Attachment(model)
    monkeypatch.setitem(AttentionInterface._global_mapping, NAME, counting)
    people = users((11, (5, 3, 9)))
    with torch.no_grad():
        packed(model, people, trims=False)
        assert rows == [28, 28, 28]
        rows.clear()
        packed(model, people)
    # Two layers over the whole row; the last one once for the keys, once for the three answers.
    assert rows == [28, 28, 28, 3]


def test_bfloat16_is_as_near_to_float32_as_single_prompts_are(monkeypatch: pytest.MonkeyPatch) -> None:
    many = tuple(range(3, 95))
    monkeypatch.setattr(small_models, "ANSWERS", many)
    exact = make(PACKED["llama"])
    rough = make(PACKED["llama"]).to(torch.bfloat16)
    people = users((40, (6, 9, 4, 7, 7, 5)))
    with torch.no_grad():
        expected = one_by_one(exact, people)
        single = (one_by_one(rough, people).float() - expected).square().mean().sqrt()
        Attachment(rough)
        row = (packed_logits(rough, pack(people), many) - expected).square().mean().sqrt()
    assert row < 1.25 * single
