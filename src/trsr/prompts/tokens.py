"""Counting and cutting text by tokens, whoever's tokens they are."""

from __future__ import annotations

import re
from typing import Final, Protocol

from trsr.prompts.words import WITHOUT_SPACES

_PIECE: Final = re.compile(rf"[{WITHOUT_SPACES}]|(?:(?![{WITHOUT_SPACES}])\w){{1,6}}|[^\w\s]")


class Tokens(Protocol):
    """Counts and cuts text by the tokens of the model that will read it."""

    def count(self, text: str) -> int:
        """Tokens of `text`."""
        ...

    def cut(self, text: str, max_tokens: int) -> str:
        """Return the longest beginning of `text` of at most `max_tokens` tokens, without trailing space."""
        ...


class ApproximateTokens:
    """Tokens of a model whose tokenizer is not at hand, such as one behind a server.

    A word counts one token per six letters begun, a sign counts one: slightly more
    than byte-pair tokenizers make of English, so that budgets err on the safe side.
    So does every letter of a script that puts no spaces between words.

    Examples
    --------
    >>> tokens = ApproximateTokens()
    >>> tokens.count("Cordless drill, 18V")
    5
    >>> tokens.cut("Cordless drill, 18V", 3)
    'Cordless drill'
    """

    def count(self, text: str) -> int:
        """Tokens of `text`."""
        return sum(1 for _ in _PIECE.finditer(text))

    def cut(self, text: str, max_tokens: int) -> str:
        """Return the longest beginning of `text` of at most `max_tokens` tokens, without trailing space."""
        end = 0
        for number, piece in enumerate(_PIECE.finditer(text)):
            if number == max_tokens:
                return text[:end].rstrip()
            end = piece.end()
        return text.rstrip()
