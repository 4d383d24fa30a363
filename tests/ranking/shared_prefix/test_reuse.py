from __future__ import annotations

import torch
from small_models import ANSWERS, PACKED, SHAPES, make, one_by_one

from trsr.ranking.shared_prefix.strategy import plain_logits, reusing_logits


def test_the_prefix_goes_through_the_model_once() -> None:
    model = make(PACKED["gemma3"])
    seen: list[tuple[int, ...]] = []
    model.model.register_forward_pre_hook(
        lambda _, __, kwargs: seen.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    with torch.no_grad():
        got = reusing_logits(model, SHAPES["ragged"][0], ANSWERS)
        assert seen == [(1, 11), (3, 9)]
        assert (got - one_by_one(model, SHAPES["ragged"])).abs().max() < 1e-5


def test_plain_batches_are_sorted_by_length_and_answered_in_order() -> None:
    model = make(PACKED["llama"])
    seen: list[tuple[int, ...]] = []
    handle = model.model.register_forward_pre_hook(
        lambda _, __, kwargs: seen.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    with torch.no_grad():
        got = plain_logits(model, SHAPES["several users"], ANSWERS, budget=32)
        handle.remove()
        assert (got - one_by_one(model, SHAPES["several users"])).abs().max() < 1e-5
    # Prompts of 16, 14 | 12, 7 | 7, 1 tokens.
    assert seen == [(2, 16), (2, 12), (2, 7)]
