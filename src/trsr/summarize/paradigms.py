"""Histories cut into blocks, and the paradigms: folds of blocks into one summary."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence

from trsr.errors import ConfigError
from trsr.prompts.item_text import Tokens
from trsr.records import Block, Item, Summary
from trsr.summarize.writer import Combine, Describe, Request, Update


def cut(items: Sequence[Item], size: int) -> tuple[Block, ...]:
    """Cut a history into blocks of `size` items, oldest first; the newest block may be shorter.

    No block is ever empty. Raises ConfigError when `size` is below 1.

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
    """Cut a history into blocks of at most `max_tokens` tokens of item text, oldest first.

    `line` writes an item as the writer will show it; `tokens` counts as the model will that reads the blocks.
    An item that is longer than the budget stands in a block of its own: cutting item text is the business of
    `line`, losing an item is nobody's. Raises ConfigError when `max_tokens` is below 1.
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


Fold = Generator[list[Request], list[Summary], Summary]
"""Yields requests, receives their summaries, returns the final summary."""

Paradigm = Callable[[Sequence[Block]], Fold]
"""Starts the fold of one user's blocks, oldest first."""


def none(blocks: Sequence[Block]) -> Fold:
    """Make no call: the summary is empty."""
    yield from ()
    return Summary("")


def recurrent(blocks: Sequence[Block]) -> Fold:
    """Describe the first block (the oldest), then update the summary with one block after the other."""
    if not blocks:
        return Summary("")
    [summary] = yield [Describe(blocks[0])]
    for block in blocks[1:]:
        [summary] = yield [Update(summary, block)]
    return summary


def hierarchical(blocks: Sequence[Block], fan_in: int) -> Fold:
    """Describe every block alone, then combine the summaries level by level, `fan_in` a call, oldest first.

    A summary left alone at the end of a level goes up as it is. Raises ConfigError when `fan_in` is below 2,
    since the levels would never end.
    """
    if fan_in < 2:
        message = f"fan_in must be at least 2, got {fan_in}; it is how many summaries one call combines"
        raise ConfigError(message)
    if not blocks:
        return Summary("")
    level = yield [Describe(block) for block in blocks]
    while len(level) > 1:
        groups = [tuple(level[start : start + fan_in]) for start in range(0, len(level), fan_in)]
        alone = groups.pop() if len(groups[-1]) == 1 else ()
        level = [*(yield [Combine(group) for group in groups]), *alone]
    return level[0]
