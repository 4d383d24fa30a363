"""Factors of linear layers: the algebra on planted inputs, and whole tiny models."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedModel

from small_run import one_token_words
from trsr.config.ranking import Lora
from trsr.config.summary import Prompting
from trsr.errors import ModelError
from trsr.hf.adapters import add_adapter, merge_adapter
from trsr.hf.compression import compress, factorise, in_8_bits, ranks_of, weight_bytes
from trsr.hf.loading import read_weights
from trsr.ranking.export import export_ranker
from trsr.ranking.ranker import Origin, Ranker
from trsr.ranking.scoring import RankingUser
from trsr.records import Item

Tensor = torch.Tensor


def _draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def weight() -> Tensor:
    return torch.randn(12, 16, generator=_draw(0), dtype=torch.float64)


@pytest.fixture(scope="module")
def correlated() -> Tensor:
    """Inputs that lie along few directions, and the more so the later."""
    mixed = torch.randn(16, 16, generator=_draw(1), dtype=torch.float64)
    scale = torch.logspace(1, -2, 16, dtype=torch.float64)
    return torch.randn(400, 16, generator=_draw(2), dtype=torch.float64) * scale @ mixed


def _product(weight: Tensor, inputs: Tensor, rank: int, **options: bool) -> Tensor:
    a, b = factorise(weight, inputs, inputs, rank, **options)
    assert a.shape == (12, rank)
    assert b.shape == (rank, 16)
    return a @ b


def _lost(weight: Tensor, made: Tensor, inputs: Tensor) -> float:
    return float(((weight - made) @ inputs.T).square().sum() / len(inputs))


@pytest.mark.parametrize("rank", [1, 4, 9])
def test_is_plain_svd_where_inputs_are_white(weight: Tensor, rank: int) -> None:
    white = torch.linalg.qr(torch.randn(64, 16, generator=_draw(3), dtype=torch.float64)).Q
    plain = _product(weight, white, rank, whiten=False)
    torch.testing.assert_close(_product(weight, white, rank), plain, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_whitened_beats_plain_on_correlated_inputs(weight: Tensor, correlated: Tensor, rank: int) -> None:
    whitened, plain = (
        _lost(weight, _product(weight, correlated, rank, whiten=on), correlated) for on in (True, False)
    )
    assert whitened < 0.5 * plain


def test_loses_the_squares_of_the_values_left_out(weight: Tensor, correlated: Tensor) -> None:
    root = torch.linalg.cholesky(correlated.T @ correlated / len(correlated))
    left_out = torch.linalg.svdvals(weight @ root)[3:].square().sum()
    lost = _lost(weight, _product(weight, correlated, 3), correlated)
    assert lost == pytest.approx(float(left_out), rel=1e-4)


@pytest.mark.parametrize("tokens", [1, 5])
def test_takes_fewer_tokens_than_inputs(weight: Tensor, correlated: Tensor, tokens: int) -> None:
    few = correlated[:tokens].clone()
    few[:, 0] = 0
    assert _lost(weight, _product(weight, few, tokens), few) < 1e-6 * _lost(weight, 0 * weight, few)


def test_inputs_of_zeros_are_no_failure(weight: Tensor) -> None:
    assert _product(weight, torch.zeros(3, 16), 2).isfinite().all()


def test_alignment_makes_up_for_what_was_lost_before(weight: Tensor, correlated: Tensor) -> None:
    met = correlated @ torch.randn(16, 16, generator=_draw(4), dtype=torch.float64)
    wanted = correlated @ weight.T

    def lost(*, align: bool) -> float:
        a, b = factorise(weight, correlated, met, 6, align=align)
        return float((wanted - met @ (a @ b).T).norm() / wanted.norm())

    assert lost(align=True) < 0.2 < lost(align=False)


@pytest.fixture(scope="module")
def model(tiny_model_dir: Path) -> PreTrainedModel:
    return read_weights(tiny_model_dir, torch.device("cpu"))


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    return torch.randint(0, 500, (12, 30), generator=_draw(5)).tolist()


@torch.inference_mode()
def _logits(model: PreTrainedModel, prompts: list[list[int]]) -> Tensor:
    return model(input_ids=torch.tensor(prompts), use_cache=False).logits


def test_keeping_all_changes_nothing(model: PreTrainedModel, prompts: list[list[int]]) -> None:
    whole = copy.deepcopy(model)
    layers = compress(whole, prompts, 1.0)
    assert [layer.rank for layer in layers] == [None] * 14
    assert max(layer.in_place for layer in layers) < 1e-5
    torch.testing.assert_close(_logits(whole, prompts), _logits(model, prompts), rtol=0, atol=0)


def test_whitened_errors_are_below_plain_ones_in_every_layer(
    model: PreTrainedModel, prompts: list[list[int]]
) -> None:
    whitened, plain = (
        compress(copy.deepcopy(model), prompts, 0.5, whiten=on, align=False) for on in (True, False)
    )
    assert [layer.name for layer in whitened] == [layer.name for layer in plain]
    for one, other in zip(whitened, plain, strict=True):
        assert one.rank == other.rank
        assert one.alone <= other.alone + 1e-6


def test_half_the_weights_are_half_the_bytes(model: PreTrainedModel, prompts: list[list[int]]) -> None:
    smaller = copy.deepcopy(model)
    compress(smaller, prompts, 0.5)
    linear = sum(part.weight.numel() for name, part in model.named_modules() if name.endswith("_proj"))
    kept = sum(
        parameter.numel()
        for name, parameter in smaller.named_parameters()
        if name.endswith(("_proj.0.weight", "_proj.1.weight"))
    )
    assert 0.42 * linear < kept <= 0.5 * linear
    assert weight_bytes(smaller)[0] < weight_bytes(model)[0] - 1.9 * linear


def test_8_bits_are_near_and_smaller(model: PreTrainedModel, prompts: list[list[int]]) -> None:
    eight = in_8_bits(model)
    ours, theirs = _logits(model, prompts), _logits(eight, prompts)
    assert not torch.equal(ours, theirs)
    assert (ours - theirs).norm() < 0.2 * ours.norm()
    assert weight_bytes(eight)[1] < weight_bytes(model)[1]


def test_a_model_without_linear_layers_is_refused(prompts: list[list[int]]) -> None:
    conv = GPT2LMHeadModel(GPT2Config(vocab_size=512, n_embd=8, n_layer=1, n_head=1, n_positions=64))
    with pytest.raises(ModelError, match="no blocks with linear layers"):
        compress(conv, prompts, 0.5)


def test_a_merged_adapter_saved_and_loaded_scores_the_same(
    tiny_model_dir: Path, model: PreTrainedModel, prompts: list[list[int]], tmp_path: Path
) -> None:
    adapted = add_adapter(copy.deepcopy(model), Lora(rank=2))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=_draw(6))
    merged = merge_adapter(adapted)
    assert not torch.equal(_logits(merged, prompts), _logits(model, prompts))
    compress(merged, prompts, 0.5)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    asked = Prompting(max_tokens=256, answers=one_token_words(tiny_model_dir))
    ranker = Ranker(merged, tokenizer, asked, 12, Origin("huggingface", "tiny"))
    ranker.save(tmp_path)
    items = [Item(str(place), {"title": f"drill {place}"}) for place in range(4)]
    user = RankingUser("u", "likes tools", tuple(items[:2]), tuple(items[2:]))
    again = Ranker.load(tmp_path)
    assert ranks_of(again.model) == ranks_of(merged)
    assert len(ranks_of(merged)) == 14
    torch.testing.assert_close(_logits(again.model, prompts), _logits(merged, prompts), rtol=0, atol=0)
    assert again.score([user])[0].tolist() == pytest.approx(ranker.score([user])[0].tolist(), abs=1e-7)
    with pytest.raises(ModelError, match="export the run's own model"):
        export_ranker(again, items, "cross-encoder", tmp_path / "exported")
