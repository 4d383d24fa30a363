"""Small models of every supported architecture, and prompts of every shape that matters."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    OPTConfig,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from trsr.ranking.shared_prefix.layout import UserPrompts

VOCABULARY = 97
ANSWERS = (5, 6)

_SIZE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GATED = {**_SIZE, "intermediate_size": 48, "num_key_value_heads": 2, "initializer_range": 0.2}
_GEMMA = {**_GATED, "head_dim": 8}
_WINDOWS = ["sliding_attention", "full_attention", "sliding_attention"]

PACKED: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**_GATED),
    "qwen2": Qwen2Config(**_GATED, tie_word_embeddings=True),
    "qwen2-window": Qwen2Config(**_GATED, use_sliding_window=True, sliding_window=7, max_window_layers=1),
    "qwen3": Qwen3Config(**_GATED, head_dim=8),
    "mistral": MistralConfig(**_GATED, sliding_window=None),
    "mistral-window": MistralConfig(**_GATED, sliding_window=9),
    "gemma": GemmaConfig(**_GEMMA),
    "gemma3": Gemma3TextConfig(**_GEMMA, sliding_window=6, layer_types=_WINDOWS, final_logit_softcapping=2.0),
    "phi3": Phi3Config(**_GATED),
    "phi3-window": Phi3Config(**_GATED, sliding_window=8),
    "opt": OPTConfig(**_SIZE, ffn_dim=48, word_embed_proj_dim=24, init_std=0.2, dropout=0.0),
    "gpt-neox": GPTNeoXConfig(
        **_SIZE, intermediate_size=48, initializer_range=0.2, use_parallel_residual=True
    ),
}
GEMMA2 = Gemma2Config(**_GEMMA, sliding_window=6, layer_types=_WINDOWS, attn_logit_softcapping=1.0)


def make(config: PreTrainedConfig, **settings: object) -> PreTrainedModel:
    """A model with random weights whose norms and biases matter too."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(deepcopy(config), **settings).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def draw(generator: torch.Generator, length: int) -> list[int]:
    return torch.randint(3, VOCABULARY, (length,), generator=generator).tolist()


def users(*shapes: tuple[int, tuple[int, ...]], seed: int = 0) -> list[UserPrompts]:
    """Users with random prompts, each given as its prefix's and its suffixes' lengths."""
    generator = torch.Generator().manual_seed(seed)
    return [
        UserPrompts(draw(generator, prefix), [draw(generator, size) for size in sizes])
        for prefix, sizes in shapes
    ]


SHAPES = {
    "ragged": users((11, (5, 3, 9))),
    "even": users((20, (5, 5, 5, 5))),
    "one candidate": users((13, (4,))),
    "empty prefix": users((0, (4, 6))),
    "one token each": users((1, (1, 1))),
    "several users": users((11, (5, 3)), (2, (5, 5)), (0, (1, 12))),
}


def one_by_one(model: nn.Module, people: list[UserPrompts]) -> Tensor:
    """The reference: every prompt alone, all logits, the last position of them."""
    prompts = [[*user.prefix, *suffix] for user in people for suffix in user.suffixes]
    return torch.stack(
        [model(input_ids=torch.tensor([prompt])).logits[0, -1, list(ANSWERS)] for prompt in prompts]
    )
