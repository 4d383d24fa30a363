"""Histories cut into blocks, and the paradigms: how a user's blocks become one summary."""

from __future__ import annotations

from asyncio import gather
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial

from trsr.config.summary import Summarization
from trsr.errors import ConfigError
from trsr.prompts.item_text import Tokens
from trsr.records import Block, Item, Summary
from trsr.registry import PARADIGMS, find_part
from trsr.summarize.sections import Profile
from trsr.summarize.writer import Editor, Writer


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


Paradigm = Callable[[Writer, Sequence[Block]], Awaitable[Summary]]
"""Makes one summary of one user's blocks, oldest first, by awaiting the verbs of a writer."""


def open_paradigm(name: str, settings: Summarization) -> Paradigm:
    """Take the paradigm of a name: a built-in one, or anybody's own as ``package.module:function``.

    A paradigm is an async function of a writer, one user's blocks (oldest first, perhaps none) and the
    section `summary` of the configuration; it returns the user's summary. What can be written side by side it
    awaits together (`asyncio.gather`). It knows nothing of other users, of batches or of what was written
    before: when events are appended, what it asks about blocks that didn't change is answered by the
    summaries that are there.

    Raises ConfigError when there is no such paradigm.

    Examples
    --------
    >>> async def newest(writer: Writer, blocks: Sequence[Block], settings: Summarization) -> Summary:
    ...     return await writer.describe(blocks[-1]) if blocks else Summary("")
    """
    return partial(find_part("paradigm", name, PARADIGMS), settings=settings)


async def none(writer: Writer, blocks: Sequence[Block], settings: Summarization) -> Summary:
    """Make no call: the summary is empty."""
    return Summary("")


async def recurrent(writer: Writer, blocks: Sequence[Block], settings: Summarization) -> Summary:
    """Describe the first block (the oldest), then update the summary with one block after the other."""
    if not blocks:
        return Summary("")
    summary = await writer.describe(blocks[0])
    for block in blocks[1:]:
        summary = await writer.update(summary, block)
    return summary


async def sections(writer: Editor, blocks: Sequence[Block], settings: Summarization) -> Summary:
    """Let one block after the other, oldest first, edit a profile in sections, empty at first.

    What is kept of a block are its edits: the profile, and what caused each line, are read from these.
    """
    profile = Profile()
    for block in blocks:
        profile = profile.edited(await writer.edit(profile, block), block.index)
    return Summary(profile.text)


async def hierarchical(writer: Writer, blocks: Sequence[Block], settings: Summarization) -> Summary:
    """Describe every block alone, then combine the summaries level by level, `fan_in` a call, oldest first.

    A summary left alone at the end of a level goes up as it is.
    """
    if not blocks:
        return Summary("")
    level = await gather(*(writer.describe(block) for block in blocks))
    while len(level) > 1:
        starts = range(0, len(level), settings.fan_in)
        groups = [level[start : start + settings.fan_in] for start in starts]
        alone = groups.pop() if len(groups[-1]) == 1 else []
        level = [*await gather(*(writer.combine(group) for group in groups)), *alone]
    return level[0]
