from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from tiny_shop import tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from trsr.compact.model import train_tokenizer
from trsr.errors import ModelError
from trsr.hf.tokenization import PlainEncoder
from trsr.ranking.scoring import find_answers

SLOT = "Candidate product:\n\n\nAnswer:"


def without_prompts(answers: tuple[str, str]) -> PreTrainedTokenizerFast:
    return train_tokenizer(["cordless drill", "blue mug"], [], answers, 340)


def test_the_answers_are_the_tokens_that_continue_the_slot() -> None:
    words = tokenizer()
    answers = find_answers(PlainEncoder(words), SLOT, ("yes", "no"))
    assert words.decode([answers.yes]) == " yes"
    assert words.decode([answers.no]) == " no"


def test_a_slot_that_ends_in_a_line_break_is_continued_without_a_space() -> None:
    vocabulary: dict[str, int] = {}

    def encode(texts: Sequence[str]) -> list[list[int]]:
        pieces = (re.findall(r" ?\w+|\W", text) for text in texts)
        return [[vocabulary.setdefault(piece, len(vocabulary)) for piece in found] for found in pieces]

    after_break, after_colon = (
        find_answers(encode, slot, ("yes", "no")) for slot in ("Answer:\n", "Answer:")
    )
    assert after_break.yes == vocabulary["yes"]
    assert after_colon.yes == vocabulary[" yes"]


def test_a_tokenizer_without_the_word_is_refused_with_what_was_got_and_what_to_set() -> None:
    with pytest.raises(ModelError, match=r"'yes'.*but it is \d tokens \[.*set prompt\.answers"):
        find_answers(PlainEncoder(without_prompts(("ja", "nein"))), SLOT, ("yes", "no"))


def test_the_unknown_token_is_no_answer() -> None:
    backend = Tokenizer(models.WordLevel({"[UNK]": 0, "Answer": 1, ":": 2, "no": 3}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    words = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")
    with pytest.raises(ModelError, match=r"'yes'.*unknown token \(0\)"):
        find_answers(PlainEncoder(words), "Answer:", ("yes", "no"), unknown=words.unk_token_id)


def test_an_answer_that_changes_the_tokens_before_it_is_refused() -> None:
    vocabulary = {letter: number for number, letter in enumerate("Aa: yesno")} | {": ": 20, ": y": 21}
    merges = [(":", " "), (": ", "y")]
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    with pytest.raises(ModelError, match="changes the tokens before it"):
        find_answers(PlainEncoder(PreTrainedTokenizerFast(tokenizer_object=backend)), "A:", ("yes", "no"))


def test_two_words_of_one_token_are_refused() -> None:
    with pytest.raises(ModelError, match="same token"):
        find_answers(PlainEncoder(tokenizer()), SLOT, ("yes", "yes"))
