from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from small_models import ANSWERS, GEMMA2, PACKED, SHAPES, make, one_by_one
from torch import nn
from transformers import AutoModelForCausalLM

from trsr.errors import ModelError
from trsr.ranking.shared_prefix.attention import NAME, Attachment, layers_of, pretrained
from trsr.ranking.shared_prefix.forward import packed_logits
from trsr.ranking.shared_prefix.layout import pack


def test_detaching_gives_the_model_its_own_attention_back() -> None:
    model = make(PACKED["llama"])
    attachment = Attachment(model)
    assert model.config._attn_implementation == NAME
    attachment.detach()
    assert model.config._attn_implementation == "sdpa"
    with pytest.raises(ModelError, match="0 of 3 layers"):
        packed_logits(model, pack(SHAPES["ragged"]), ANSWERS)


def test_nothing_of_it_is_saved(tmp_path: Path) -> None:
    model = make(PACKED["qwen2"])
    Attachment(model)
    model.save_pretrained(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text()
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "qwen2"
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    with torch.no_grad():
        expected = one_by_one(model, SHAPES["even"])
        assert torch.equal(one_by_one(loaded, SHAPES["even"]), expected)
        Attachment(loaded)
        assert (packed_logits(loaded, pack(SHAPES["even"]), ANSWERS) - expected).abs().max() < 1e-5


def test_padded_batches_on_either_side_are_computed_as_before() -> None:
    model = make(PACKED["mistral-window"])
    ids = torch.tensor([[0, 0, 5, 6, 7, 8], [9, 10, 11, 12, 13, 14]])
    mask = (ids > 0).long()
    with torch.no_grad():
        left, right = (
            model(input_ids=rows, attention_mask=shown).logits
            for rows, shown in ((ids, mask), (ids.flip(1), mask.flip(1)))
        )
        generated = model.generate(ids, attention_mask=mask, max_new_tokens=12, do_sample=False)
        Attachment(model)
        assert torch.equal(model(input_ids=ids, attention_mask=mask).logits, left)
        assert torch.equal(model(input_ids=ids.flip(1), attention_mask=mask.flip(1)).logits, right)
        assert torch.equal(
            model.generate(ids, attention_mask=mask, max_new_tokens=12, do_sample=False), generated
        )


def test_attaching_twice_is_the_same_as_once() -> None:
    model = make(PACKED["llama"])
    Attachment(model)
    Attachment(model)
    with torch.no_grad():
        expected = one_by_one(model, SHAPES["ragged"])
        assert (packed_logits(model, pack(SHAPES["ragged"]), ANSWERS) - expected).abs().max() < 1e-5


def test_soft_capped_attention_is_refused() -> None:
    with pytest.raises(ModelError, match="'eager'"):
        Attachment(make(GEMMA2))
    # Even when somebody insists on torch's attention, whose plain form would refuse it as well.
    model = make(GEMMA2)
    model.config._attn_implementation_internal = "sdpa"
    Attachment(model)
    with pytest.raises(ModelError, match="softcap"):
        packed_logits(model, pack(SHAPES["ragged"]), ANSWERS)


def test_models_without_clear_layers_are_refused() -> None:
    model = make(PACKED["llama"])
    assert len(layers_of(model)) == 3
    model.config.num_hidden_layers = 7
    with pytest.raises(ModelError, match="0 lists of 7 decoder layers"):
        Attachment(model)
    with pytest.raises(ModelError, match="no transformers model"):
        pretrained(nn.Linear(2, 2))
