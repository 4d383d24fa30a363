"""The built-in language model: a vocabulary of the catalogue's own words, and a small model of Qwen's form.

It needs no download and speaks no language: it knows the words of one catalogue.
Whatever shows its results names it `compact`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import torch
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from trsr.config.ranking import CompactModel
from trsr.errors import ModelError
from trsr.prompts.words import WIDE, WITHOUT_SPACES, segments, usual_width

END: Final = "<|end|>"
"""Ends a document; also begins every prompt."""
PAD: Final = "<|pad|>"
_LONGEST_PROMPT: Final = 8192
_BYTES: Final = 256
_SPACE: Final = 0x20
_WORD: Final = re.compile(r"[^\W\d_]+")
_SIGNS: Final = r"[^\w\s?:>-]+| +"
"""Signs that neither the prompt's lines nor compound words are made of, and runs of spaces."""
_RUNS: Final = (
    rf"[{WITHOUT_SPACES}]+| ?(?:(?![{WITHOUT_SPACES}])[\p{{L}}\p{{M}}])+"
    r"| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]+|\s+(?!\S)|\s+"
)
"""What no token goes beyond: GPT-2's runs, with accents and vowel signs, and scripts without spaces apart."""


def train_tokenizer(
    texts: Iterable[str], prompt_texts: Sequence[str], answers: tuple[str, str], vocabulary: int
) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE on the catalogue, with the answers as single tokens.

    The tokenizer reads small letters only, and passes over English stop words (but those of the prompt and
    the answers) and most signs: a small model learns from items, and an item that costs half the tokens is
    learnt twice as often in the same time. Where no spaces stand between words, it learns from one word after
    the other, so that tokens are words and their parts, never half a sentence; spaces before such words count
    for nothing.

    `texts` are item lines, each once; each answer must be one token after a space. The size of the vocabulary
    includes the 256 bytes and two special tokens. Raises ModelError when it is too small to hold the answers.
    """
    lines = list(texts)
    tokenizer = Tokenizer(models.BPE())
    wide = {letter for line in lines for letter in WIDE.findall(line)}
    tokenizer.normalizer = _normalizer({*_words(prompt_texts), *_words(answers)}, wide)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_RUNS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_weighted(lines, prompt_texts, answers), trainer)
    for answer in answers:
        ids = tokenizer.encode(f" {answer}").ids
        if len(ids) != 1:
            message = (
                f"model.vocabulary={vocabulary} is too small to hold the answer {answer!r} as one token "
                f"(it became {len(ids)}); take at least {_BYTES + 64 + 2 * len(answer)}"
            )
            raise ModelError(message)
    named = {"eos_token": END, "bos_token": END, "pad_token": PAD}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)  # type: ignore[no-untyped-call]


def build_model(
    settings: CompactModel, tokenizer: PreTrainedTokenizerFast, seed: int, layers: int | None = None
) -> Qwen2ForCausalLM:
    """Make a small model with random weights, which the seed decides, for `tokenizer`.

    `layers` are transformer layers; None for those of `settings`. Raises ModelError when the width can't be
    divided among the heads.
    """
    if settings.hidden % (2 * settings.heads):
        message = (
            f"model.hidden: must be a multiple of twice model.heads ({2 * settings.heads}), "
            f"got {settings.hidden}"
        )
        raise ModelError(message)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden,
        intermediate_size=settings.hidden * 8 // 3,
        num_hidden_layers=settings.layers if layers is None else layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads // 2 if settings.heads % 2 == 0 else settings.heads,
        max_position_embeddings=_LONGEST_PROMPT,
        tie_word_embeddings=True,
        use_cache=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen2ForCausalLM(config)


def _words(texts: Iterable[str]) -> set[str]:
    return {word for text in texts for word in _WORD.findall(text.lower())}


def _normalizer(kept: set[str], wide: set[str]) -> normalizers.Normalizer:
    """Make small letters of usual width, and leave out stop words that are not to be kept."""
    stops = "|".join(sorted(word for word in ENGLISH_STOP_WORDS if word not in kept))
    steps: list[normalizers.Normalizer] = [
        # Letters with their voicing marks come before the bare letters.
        *(normalizers.Replace(letter, usual_width(letter)) for letter in sorted(wide, key=len, reverse=True)),
        # A small model learns a word once: a title writes it large, a summary small.
        normalizers.Lowercase(),
        normalizers.Replace(Regex(rf"(?<![^\W_])(?:{stops})(?![^\W_])"), ""),
        normalizers.Replace(Regex(_SIGNS), " "),
        normalizers.Replace(Regex(" +"), " "),
        normalizers.Replace(Regex(rf" (?=[{WITHOUT_SPACES}])"), ""),
    ]
    return normalizers.Sequence(steps)


def _weighted(lines: Sequence[str], prompts: Sequence[str], answers: Sequence[str]) -> Iterator[list[str]]:
    """Yield the corpus in segments, with the answers above all other pairs of letters: merged first."""
    letters: Counter[int] = Counter()
    for text in lines:
        letters.update(text.lower().encode())
    for text in prompts:
        for letter, count in Counter(text.encode()).items():
            letters[letter] += count * len(lines)
    del letters[_SPACE]
    # No pair is counted more often than its second letter, and that one is never a space.
    most = max(letters.values(), default=0) + 1
    for answer in answers:
        yield [f" {answer}"] * most
    prompted = [segments(text) for text in prompts]
    for line in lines:
        # As often as a line, since every line stands in a prompt; so the prompt's words become single tokens.
        yield from prompted
        yield segments(line)
