"""A shop of four colours, users who always buy one of them, and tiny models of several architectures."""

from __future__ import annotations

import torch
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from trsr.compact.model import train_tokenizer
from trsr.config.summary import Prompting
from trsr.prompts.templates import BUILT_IN
from trsr.ranking.ranker import Origin, Ranker
from trsr.ranking.scoring import RankingUser
from trsr.records import Item

COLOURS = ("red", "green", "blue", "white")
ITEMS = tuple(
    Item(f"{colour}-{number}", {"colour": colour, "title": f"{noun} number {number}"})
    for number, noun in enumerate(("lamp", "chair", "mug", "rug", "vase", "bowl"))
    for colour in COLOURS
)
PROMPTING = Prompting(domain="shopping", recent_items=3, max_tokens=256, summary_tokens=24)


def users(count: int, candidates: int = 5) -> list[RankingUser]:
    """Users who buy one colour; the target has it and the other candidates don't."""
    made = []
    for number in range(count):
        colour = COLOURS[number % len(COLOURS)]
        own = [item for item in ITEMS if item.fields["colour"] == colour]
        others = [item for item in ITEMS if item.fields["colour"] != colour]
        start = number // len(COLOURS)
        target = own[start % len(own)]
        history = tuple(item for item in own if item is not target)[: 2 + start % 4]
        asked = [others[(number * 7 + place * 5) % len(others)] for place in range(candidates - 1)]
        place = number % candidates
        asked.insert(place, target)
        summary = f"Likes {colour} things." if number % 3 else ""
        made.append(RankingUser(f"u{number}", summary, history, tuple(asked), place))
    return made


def tokenizer(answers: tuple[str, str] = ("yes", "no")) -> PreTrainedTokenizerFast:
    words = [path.read_text(encoding="utf-8") for path in sorted(BUILT_IN.glob("rank*fix.jinja"))]
    lines = [" ".join(item.fields.values()) for item in ITEMS]
    return train_tokenizer(lines, words, answers, 600)


def model(architecture: str, vocabulary: int, seed: int = 0) -> PreTrainedModel:
    shape = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 512,
        "initializer_range": 0.2,
        "pad_token_id": 1,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if architecture == "llama":
            return LlamaForCausalLM(LlamaConfig(intermediate_size=64, **shape))
        if architecture == "qwen2":
            return Qwen2ForCausalLM(Qwen2Config(intermediate_size=64, num_key_value_heads=2, **shape))
        if architecture == "gpt_neox":
            return GPTNeoXForCausalLM(GPTNeoXConfig(intermediate_size=64, **shape))
        shape["init_std"] = shape.pop("initializer_range")
        return OPTForCausalLM(OPTConfig(ffn_dim=64, word_embed_proj_dim=32, dropout=0.0, **shape))


def ranker(architecture: str = "qwen2", seed: int = 0, kind: str = "tiny") -> Ranker:
    words = tokenizer()
    return Ranker(model(architecture, len(words), seed), words, PROMPTING, 12, Origin(kind, "tiny"))
