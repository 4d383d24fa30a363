"""An item as one line of text."""

from __future__ import annotations

from typing import Final

from trsr.prompts.tokens import Tokens
from trsr.prompts.untrusted import neutralise
from trsr.records import Item

SEPARATOR: Final = "; "
NO_TEXT: Final = "(no text)"


def item_line(item: Item, tokens: Tokens, max_tokens: int) -> str:
    """Write an item's fields as ``name: value``, joined into one neutral line of at most `max_tokens` tokens.

    The line is cut at the cap, without a mark: fields stand in the order of the
    item, so a field that is longer than what is left is shown in part and the
    fields after it not at all. Put what matters most first.

    Parameters
    ----------
    item
        The item; fields without visible text are left out.
    tokens
        Counts by the tokens of the model that will read the line.
    max_tokens
        Cap of the line.

    Returns
    -------
    str
        The line; ``(no text)`` for an item without any text.

    Examples
    --------
    >>> from trsr.prompts.tokens import ApproximateTokens
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
