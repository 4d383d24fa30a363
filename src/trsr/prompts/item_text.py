"""An item as one line of text, and how many tokens a text takes."""

from __future__ import annotations

import re
from typing import Final, Protocol

from trsr.prompts.untrusted import neutralise
from trsr.prompts.words import WITHOUT_SPACES
from trsr.records import Item

SEPARATOR: Final = "; "
NO_TEXT: Final = "(no text)"


def item_line(item: Item, tokens: Tokens, max_tokens: int) -> str:
    """Write an item's fields as ``name: value``, joined into one neutral line of at most `max_tokens` tokens.

    The line is cut at the cap, without a mark: fields stand in the order of the
    item, so a field that is longer than what is left is shown in part and the
    fields after it not at all. Put what matters most first. Fields without visible text are left
    out; an item without any text gives ``(no text)``. Tokens are those of the model that will read the line.

    Examples
    --------
    >>> from trsr.prompts.item_text import ApproximateTokens
    >>> drill = Item("7", {"title": "Cordless drill", "brand": "", "price": "89"})
    >>> item_line(drill, ApproximateTokens(), 64)
    'title: Cordless drill; price: 89'
    >>> item_line(drill, ApproximateTokens(), 4)
    'title: Cordless'
    >>> item_line(Item("8", {}), ApproximateTokens(), 64)
    '(no text)'
    """
    neutral = [(neutralise(name), neutralise(value)) for name, value in item.fields.items()]
    line = SEPARATOR.join(f"{name}: {value}" if name else value for name, value in neutral if value)
    return tokens.cut(line, max_tokens) or NO_TEXT


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
