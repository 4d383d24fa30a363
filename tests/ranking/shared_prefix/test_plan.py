from __future__ import annotations

import pytest
import torch
from small_models import ANSWERS, GEMMA2, PACKED, SHAPES, make, one_by_one, users
from transformers import BloomConfig, FalconConfig, LlamaConfig, MambaConfig, PreTrainedConfig

from trsr.ranking.shared_prefix import attention
from trsr.ranking.shared_prefix.strategy import Path, Plan, candidate_logits, choose

TINY = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "pad_token_id": 0}


@pytest.mark.parametrize("architecture", PACKED)
def test_supported_models_are_packed_and_trimmed(architecture: str) -> None:
    plan = choose(make(PACKED[architecture]))
    assert (plan.path, plan.trims) == (Path.PACKED, True), plan.reason
    assert "random prompts give the logits of single prompts" in plan.reason


OTHERS: dict[str, tuple[PreTrainedConfig, Path]] = {
    "gemma2": (GEMMA2, Path.REUSE),
    "bloom": (BloomConfig(**TINY, n_layer=2, n_head=4), Path.REUSE),
    "falcon": (FalconConfig(**TINY, num_attention_heads=4, alibi=False), Path.REUSE),
    "mamba": (MambaConfig(**TINY, state_size=4), Path.PLAIN),
}


@pytest.mark.parametrize("architecture", OTHERS)
def test_other_models_fall_back_and_say_why(architecture: str) -> None:
    config, path = OTHERS[architecture]
    model = make(config)
    people = SHAPES["several users"]
    with torch.no_grad():
        expected = one_by_one(model, people)
        plan = choose(model)
        got = candidate_logits(model, people, ANSWERS, plan)
    assert plan.path is path, plan.reason
    assert "not packed" in plan.reason
    assert (got - expected).abs().max() < 1e-4


@pytest.mark.parametrize("path", Path)
@pytest.mark.parametrize("budget", [None, 8, 30])
def test_every_path_gives_the_logits_of_single_prompts_in_order(path: Path, budget: int | None) -> None:
    model = make(PACKED["mistral-window"])
    people = SHAPES["several users"]
    with torch.no_grad():
        expected = one_by_one(model, people)
        plan = choose(model)
        got = candidate_logits(model, people, ANSWERS, Plan(path, plan.trims, ""), budget=budget)
    assert (got - expected).abs().max() < 1e-5


def test_prefix_reuse_trains_on_the_plain_path() -> None:
    model = make(GEMMA2)
    candidate_logits(model, SHAPES["ragged"], ANSWERS, Plan(Path.REUSE, False, "")).sum().backward()
    assert model.get_input_embeddings().weight.grad.abs().sum() > 0


def test_a_wrong_attention_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    right = attention.cascade

    def without_prefix(query, far, near, queries, keys, scale):  # type: ignore[no-untyped-def]
        return right(query, tuple(part[:, :, :0] for part in far), near, queries, keys, scale)

    monkeypatch.setattr(attention, "cascade", without_prefix)
    model = make(PACKED["llama"])
    plan = choose(model)
    assert plan.path is Path.REUSE
    assert "differ from those of single prompts" in plan.reason
    assert model.config._attn_implementation == "sdpa"


def test_a_window_that_does_not_arrive_is_refused() -> None:
    config = LlamaConfig(**TINY, num_attention_heads=4)
    config.sliding_window = 2048
    plan = choose(make(config))
    assert plan.path is Path.REUSE
    assert "should have the window 2048" in plan.reason


def test_choosing_leaves_mode_and_weights_alone() -> None:
    model = make(PACKED["llama"])
    model.train()
    model.lm_head.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    choose(model)
    assert model.training
    assert not model.lm_head.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_model_that_is_attached_already_stays_packed() -> None:
    model = make(PACKED["qwen2"])
    choose(model)
    assert choose(model).path is Path.PACKED
    with torch.no_grad():
        got = candidate_logits(model, users((9, (3, 4))), ANSWERS, choose(model))
        assert (got - one_by_one(model, users((9, (3, 4))))).abs().max() < 1e-5
