"""A byte-level BPE that keeps every letter, as those of large models do."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from trsr.compact.model import END, PAD


def plain_tokenizer(
    lines: Sequence[str], prompts: Sequence[str], answers: Sequence[str], vocabulary: int
) -> PreTrainedTokenizerFast:
    """Train it on lines and prompts; the answers become single tokens."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    often = [f" {answer}" for answer in answers] * 1000
    backend.train_from_iterator([*often, *lines, *prompts], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END, bos_token=END, pad_token=PAD)
