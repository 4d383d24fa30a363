from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    FalconConfig,
    FalconForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
)

from trsr.config.ranking import Lora
from trsr.errors import ModelError
from trsr.hf.adapters import add_adapter, attention_targets, require_effect, train_adapter

SIZES = {
    "vocab_size": 64,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "pad_token_id": 0,
}
MAKE = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(intermediate_size=32, **SIZES)),
    "opt": lambda: OPTForCausalLM(OPTConfig(ffn_dim=32, word_embed_proj_dim=16, **SIZES)),
    "gpt_neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(intermediate_size=32, **SIZES)),
    "bloom": lambda: BloomForCausalLM(BloomConfig(vocab_size=64, hidden_size=16, n_layer=2, n_head=2)),
    "falcon": lambda: FalconForCausalLM(FalconConfig(**SIZES)),
    "phi3": lambda: Phi3ForCausalLM(Phi3Config(intermediate_size=32, **SIZES)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=16, n_layer=2, n_head=2)),
}


def make(name: str) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MAKE[name]()


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("llama", ("k_proj", "o_proj", "q_proj", "v_proj")),
        ("opt", ("k_proj", "out_proj", "q_proj", "v_proj")),
        ("gpt_neox", ("query_key_value",)),
        ("bloom", ("query_key_value",)),
        ("falcon", ("query_key_value",)),
        ("phi3", ("o_proj", "qkv_proj")),
        ("gpt2", ("c_attn",)),
    ],
)
def test_the_attention_projections_of_each_architecture_are_found_and_trained(
    name: str, targets: tuple[str, ...]
) -> None:
    model = make(name)
    assert attention_targets(model) == targets
    adapted = add_adapter(model, Lora(rank=2))
    trained = {part for part, weight in adapted.named_parameters() if weight.requires_grad}
    assert trained
    assert all(".lora_" in part for part in trained)
    assert {target for target in targets if any(f".{target}." in part for part in trained)} == set(targets)


def test_an_architecture_without_attention_lists_what_could_be_adapted() -> None:
    model = MambaForCausalLM(MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1))
    with pytest.raises(ModelError, match=r"training\.lora\.targets.*MambaForCausalLM.*in_proj"):
        attention_targets(model)
    assert add_adapter(model, Lora(rank=2, targets=("in_proj",))) is not None


def test_targets_that_no_module_has_are_refused() -> None:
    with pytest.raises(ModelError, match=r"training\.lora\.targets"):
        add_adapter(make("llama"), Lora(targets=("nowhere",)))


@pytest.mark.parametrize("read", [False, True])
def test_a_checkpoint_of_adapters_asks_no_hub_for_the_base(read: bool, tmp_path: Path) -> None:
    model = MAKE["llama"]()
    model.name_or_path = "no-such-base"
    adapted = add_adapter(model, Lora())
    if read:
        adapted.peft_config["default"].base_model_name_or_path = "no-such-base"
        train_adapter(adapted)
    adapted.save_pretrained(str(tmp_path))  # a lookup would warn


def test_a_fresh_adapter_has_no_effect_and_a_trained_one_has() -> None:
    adapted = add_adapter(make("llama"), Lora(rank=2)).eval()
    with pytest.raises(ModelError, match="doesn't change"):
        require_effect(adapted, [3, 4, 5])
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.5)
    require_effect(adapted, [3, 4, 5])
