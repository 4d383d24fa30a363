from __future__ import annotations

import pytest
import torch
from small_models import ANSWERS, PACKED, SHAPES, VOCABULARY, make, one_by_one, users
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from trsr.ranking.shared_prefix import forward
from trsr.ranking.shared_prefix.attention import Attachment
from trsr.ranking.shared_prefix.forward import packed_logits, scored_logits
from trsr.ranking.shared_prefix.layout import pack


@pytest.mark.parametrize("architecture", ["qwen2", "gemma3", "opt"])
@pytest.mark.parametrize("trims", [False, True])
def test_columns_are_those_of_the_whole_vocabulary(architecture: str, trims: bool) -> None:
    model = make(PACKED[architecture])
    Attachment(model)
    row = pack(SHAPES["several users"])
    with torch.no_grad():
        whole = packed_logits(model, row, None, trims=trims)
        some = packed_logits(model, row, [40, 7], trims=trims)
    assert whole.shape == (6, VOCABULARY)
    torch.testing.assert_close(some, whole[:, [40, 7]])


def test_a_head_with_bias_and_a_head_of_its_own_kind() -> None:
    model = make(PACKED["llama"])
    model.lm_head = nn.Linear(32, VOCABULARY)
    with torch.no_grad():
        expected = one_by_one(model, SHAPES["ragged"])
        Attachment(model)
        torch.testing.assert_close(packed_logits(model, pack(SHAPES["ragged"]), (5, 6)), expected)
        plain = model.lm_head
        model.lm_head = nn.Sequential(plain, nn.Tanh())
        got = packed_logits(model, pack(SHAPES["ragged"]), (5, 6))
    torch.testing.assert_close(got, expected.tanh())


def test_only_the_answers_rows_of_a_free_head_are_trained() -> None:
    model = make(PACKED["llama"])
    Attachment(model)
    packed_logits(model, pack(SHAPES["ragged"]), (5, 6)).square().sum().backward()
    rows = model.lm_head.weight.grad.abs().sum(1).nonzero().flatten()
    assert rows.tolist() == [5, 6]


def test_distributed_training_synchronises_through_the_wrapper(tmp_path) -> None:  # type: ignore[no-untyped-def]
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        model = make(PACKED["qwen2"])
        Attachment(model)
        wrapped = DistributedDataParallel(model)
        reduced: list[int] = []

        def count(state: object, bucket: torch.distributed.GradBucket) -> torch.futures.Future[torch.Tensor]:
            reduced.append(bucket.buffer().numel())
            done: torch.futures.Future[torch.Tensor] = torch.futures.Future()
            done.set_result(bucket.buffer())
            return done

        # Torch compares the annotations themselves, which are texts in this file.
        count.__annotations__["bucket"] = torch.distributed.GradBucket
        count.__annotations__["return"] = torch.futures.Future[torch.Tensor]
        wrapped.register_comm_hook(None, count)
        packed_logits(wrapped, pack(SHAPES["ragged"]), (5, 6)).sum().backward()
        assert sum(reduced) == sum(parameter.numel() for parameter in model.parameters())
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("architecture", ["llama", "mistral-window", "opt"])
@pytest.mark.parametrize("prefix", [0, 11])
@pytest.mark.parametrize("large", [False, True])
def test_groups_of_candidates_use_the_first_groups_prefix(
    architecture: str, prefix: int, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, "_GROUP_TOKENS", 12)
    model = make(PACKED[architecture])
    people = users((prefix, (5, 3, 9, 1, 4, 7)))
    with torch.no_grad():
        expected = one_by_one(model, people)
    Attachment(model)
    tokens: list[int] = []
    model.register_forward_pre_hook(
        lambda _, __, inputs: tokens.append(inputs["input_ids"].shape[1]), with_kwargs=True
    )
    got = scored_logits(model, people[0], ANSWERS, budget=99 if large else 12)
    # In a large row several groups stand beside each other, behind a prefix that is held.
    assert tokens == ([prefix + 8, 10, 11] if not large else [prefix + 8, 21] if prefix else [29])
    assert (got - expected).abs().max() < 1e-5


def test_logits_of_bfloat16_weights_are_not_rounded_to_its_eight_bits() -> None:
    model = make(PACKED["llama"]).to(torch.bfloat16)
    Attachment(model)
    with torch.no_grad():
        logits = packed_logits(model, pack(SHAPES["ragged"]), (5, 6))
    assert logits.dtype == torch.float32
    assert (logits != logits.bfloat16().float()).any(), "as bfloat16 computes them, candidates would tie"
    assert "forward" not in vars(model.get_output_embeddings()), "the model's own calls are as they were"
