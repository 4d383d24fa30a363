"""A tiny chat model of random weights, with a tokenizer of its own: made here, without any download."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from trsr.prompts.templates import BUILT_IN

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_LEARNT_FROM = (
    "combine", "describe", "examples_generic", "examples_news", "examples_shopping", "examples_video",
    "rank_compact_prefix", "rank_compact_suffix", "rank_prefix", "rank_suffix", "repair", "system", "update",
)  # fmt: skip
"""Named one by one: a further template must not change the tokens, and so what the model answers."""
_ITEM_TEXT = "title: cordless drill; brand: Bolt; price: 89. The shopper likes tools, tea and quiet news."


def save_tiny_model(folder: Path) -> None:
    """Write a Qwen2 model of 2,048 positions, and a byte-level BPE with a chat template."""
    tokenizer = train_tokenizer()
    tokenizer.save_pretrained(folder)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.5,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        Qwen2ForCausalLM(config).save_pretrained(folder)


def train_tokenizer() -> PreTrainedTokenizerFast:
    """Learn a byte-level BPE from the prompts."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    prompts = [(BUILT_IN / f"{name}.jinja").read_text(encoding="utf-8") for name in _LEARNT_FROM]
    backend.train_from_iterator([*prompts, _ITEM_TEXT], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
