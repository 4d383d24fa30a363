"""Cutting a history into blocks of consecutive items, oldest first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from trsr.errors import ConfigError
from trsr.prompts.tokens import Tokens
from trsr.records import Block, Item


def cut(items: Sequence[Item], size: int) -> tuple[Block, ...]:
    """Cut a history into blocks of `size` items; the newest block may be shorter.

    Parameters
    ----------
    items
        The history, oldest first.
    size
        Items a block, at least 1.

    Returns
    -------
    tuple of Block
        Oldest first; empty for an empty history, and no block is ever empty.

    Raises
    ------
    ConfigError
        When `size` is below 1.

    Examples
    --------
    >>> history = [Item(str(number), {}) for number in range(7)]
    >>> [len(block.items) for block in cut(history, 5)]
    [5, 2]
    >>> cut([], 5)
    ()
    """
    _check_at_least_one(size, "size")
    starts = range(0, len(items), size)
    return tuple(Block(tuple(items[start : start + size]), index) for index, start in enumerate(starts))


def cut_by_tokens(
    items: Sequence[Item], max_tokens: int, tokens: Tokens, line: Callable[[Item], str]
) -> tuple[Block, ...]:
    """Cut a history into blocks of at most `max_tokens` tokens of item text.

    An item that is longer than the budget stands in a block of its own: cutting
    item text is the business of `line`, losing an item is nobody's.

    Parameters
    ----------
    items
        The history, oldest first.
    max_tokens
        Tokens a block, at least 1.
    tokens
        Counts the tokens of the model that will read the blocks.
    line
        Writes an item as the writer will show it.

    Returns
    -------
    tuple of Block
        Oldest first; empty for an empty history, and no block is ever empty.

    Raises
    ------
    ConfigError
        When `max_tokens` is below 1.
    """
    _check_at_least_one(max_tokens, "max_tokens")
    lengths = [tokens.count(line(item)) for item in items]
    groups = _fill(items, lengths, max_tokens)
    return tuple(Block(group, index) for index, group in enumerate(groups))


def _fill(items: Sequence[Item], lengths: Sequence[int], budget: int) -> Iterator[tuple[Item, ...]]:
    """Yield runs of items whose lengths sum to `budget` at most, or single longer items."""
    start, used = 0, 0
    for place, length in enumerate(lengths):
        if place > start and used + length > budget:
            yield tuple(items[start:place])
            start, used = place, 0
        used += length
    if start < len(items):
        yield tuple(items[start:])


def _check_at_least_one(value: int, name: str) -> None:
    if value < 1:
        message = f"{name} must be at least 1, got {value}; give the length of a block"
        raise ConfigError(message)
