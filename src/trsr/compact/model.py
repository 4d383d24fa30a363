"""The compact network, its tokenizer, and the start of its embeddings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from sklearn.utils.extmath import randomized_svd
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import nn
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from trsr.config.ranking import CompactModel
from trsr.errors import ModelError
from trsr.prompts.words import WIDE, WITHOUT_SPACES, segments, usual_width

_REACH: Final = 4
"""Items of a history that count as near each other, at weight 1 / distance."""
_NEIGHBOUR_WEIGHT: Final = 2.0
"""Weight of all near items' texts together, against 1 of the item's own."""
_LONGEST_TEXT: Final = 64
_SMOOTHING: Final = 0.75
"""Exponent of the context counts, so that rare contexts don't get the largest values."""
_RARITY: Final = (0.5 / 3, 2.0)
"""Least and largest length of a vector: rare tokens tell items apart and speak louder."""
_SCALE: Final = 0.05
"""Root mean square of the embeddings made of vectors."""


def token_vectors(
    items: Sequence[Sequence[int]],
    texts: Sequence[Sequence[int]],
    histories: Sequence[Sequence[int]],
    vocabulary: int,
    width: int,
) -> NDArray[np.float32]:
    """Compute a vector for every token that stands in an item's line; all others are zeros.

    The result has shape ``(vocabulary, width)``.

    Parameters
    ----------
    items
        Token ids of each item's line.
    texts
        Token ids of all that is known of each item; the first 64 are read.
    histories
        Places of items, oldest first.

    Examples
    --------
    Tokens 0 and 1 stand in the same texts, token 3 in others:

    >>> lines = [[0], [1], [3], [4]]
    >>> vectors = token_vectors(lines, [[0, 1], [1, 0], [3, 4], [4, 3]], [], 5, 2)
    >>> bool(vectors[0] @ vectors[1] > 0.05 > vectors[0] @ vectors[3])
    True
    """
    lines = _presence(items, vocabulary)
    own = _averaged(_presence([text[:_LONGEST_TEXT] for text in texts], vocabulary))
    around = own + _NEIGHBOUR_WEIGHT * (_averaged(_nearness(histories, len(items))) @ own)
    together = (lines.T @ around).tocoo()
    total = together.sum()
    if not total:
        return np.zeros((vocabulary, width), np.float32)
    tokens = np.asarray(together.sum(axis=1)).ravel()
    contexts = np.asarray(together.sum(axis=0)).ravel() ** _SMOOTHING
    expected = tokens[together.row] * contexts[together.col] / contexts.sum()
    information = np.log(np.maximum(together.data, 1e-12) / np.maximum(expected, 1e-12))
    kept = (information > 0) & (together.data > 0)
    positive = sparse.csr_matrix(
        (information[kept], (together.row[kept], together.col[kept])), shape=(vocabulary, vocabulary)
    )
    rank = min(width, vocabulary)
    left, values, _ = randomized_svd(positive, rank, n_iter=3, random_state=0)
    vectors = left * np.sqrt(values)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    found = np.asarray(lines.sum(axis=0)).ravel()
    rarity = np.clip(np.log((len(items) + 1) / (found + 1)) / 3, *_RARITY)
    vectors *= np.where(found > 0, rarity, 0.0)[:, None]
    return np.pad(vectors, ((0, 0), (0, width - rank))).astype(np.float32)


def start_embeddings(embedding: nn.Module, vectors: NDArray[np.float32]) -> None:
    """Put vectors into an embedding, brought to its scale; tokens without a vector keep their weights."""
    known = np.abs(vectors).sum(axis=1) > 0
    if not known.any():
        return
    weight = embedding.get_parameter("weight").data
    scaled = vectors[known] * (_SCALE / np.sqrt(np.mean(vectors[known] ** 2)))
    weight[np.flatnonzero(known)] = weight.new_tensor(scaled)


def _presence(rows: Sequence[Sequence[int]], vocabulary: int) -> sparse.csr_matrix:
    """Say with 1 which tokens stand in which row."""
    row = np.repeat(np.arange(len(rows)), [len(tokens) for tokens in rows])
    column = np.array([token for tokens in rows for token in tokens], dtype=np.int64)
    matrix = sparse.csr_matrix((np.ones(len(row)), (row, column)), shape=(len(rows), vocabulary))
    matrix.data[:] = 1.0
    return matrix


def _nearness(histories: Sequence[Sequence[int]], items: int) -> sparse.csr_matrix:
    """Sum 1 / distance over all places where two items are near each other."""
    pairs = [
        (history[place], history[place - distance], 1 / distance)
        for history in histories
        for distance in range(1, _REACH + 1)
        for place in range(distance, len(history))
    ]
    later, earlier, weight = (
        (np.array(column) for column in zip(*pairs, strict=True)) if pairs else ([], [], [])
    )
    matrix = sparse.csr_matrix((weight, (later, earlier)), shape=(items, items), dtype=np.float64)
    return matrix + matrix.T


def _averaged(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    sums = np.asarray(matrix.sum(axis=1)).ravel()
    return sparse.diags_array(1 / np.maximum(sums, 1.0)) @ matrix


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
