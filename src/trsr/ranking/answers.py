"""The answer slot: which two tokens are the answers, checked and never guessed."""

from __future__ import annotations

from dataclasses import dataclass

from trsr.errors import ModelError
from trsr.prompts.ranking_prompt import Encode


@dataclass(frozen=True, slots=True)
class Answers:
    """Token ids of the two answers as they follow the answer slot."""

    yes: int
    no: int


def find_answers(encode: Encode, slot: str, words: tuple[str, str], unknown: int | None = None) -> Answers:
    """Find the one token that each answer word is after the answer slot.

    Parameters
    ----------
    encode
        The ranking model's tokenizer.
    slot
        The prompt's last part, which the answer follows.
    words
        The words for yes and no.
    unknown
        The tokenizer's token for what it doesn't know, where it has one.

    Raises
    ------
    ModelError
        When a word is not exactly one known token there, saying what was got, or when
        both words are the same token.
    """
    yes, no = (_single_token(encode, slot, word, unknown) for word in words)
    if yes == no:
        message = (
            f"prompt.answers: {words[0]!r} and {words[1]!r} are the same token ({yes}) of this model; "
            "set others"
        )
        raise ModelError(message)
    return Answers(yes, no)


def _single_token(encode: Encode, slot: str, word: str, unknown: int | None) -> int:
    space = "" if slot[-1:].isspace() else " "
    before, after = encode([slot, f"{slot}{space}{word}"])
    new = after[len(before) :]
    if after[: len(before)] != before:
        got = f"the answer changes the tokens before it (they end in {before[-3:]}, then in {after[-3:]})"
    elif len(new) != 1:
        got = f"it is {len(new)} tokens {new}"
    elif new[0] == unknown:
        got = f"it is the unknown token ({unknown})"
    else:
        return new[0]
    message = (
        f"prompt.answers: {word!r} must be one token of this model after {slot[-24:]!r}, but {got}; "
        "set prompt.answers to two words that are one token each, or take another model"
    )
    raise ModelError(message)
