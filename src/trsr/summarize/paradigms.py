"""The paradigms: how block after block becomes one summary, as folds over the writer's three verbs.

A paradigm is a generator. It yields the requests that can be made at once,
receives their answers in the same order, and returns the final summary. It
knows one user and no batching; `trsr.summarize.runner` runs many of them side by side.

============  =====================  =================================
paradigm      calls for n blocks     waves
============  =====================  =================================
none          0                      0
recurrent     n                      n, each needs the one before it
hierarchical  n + 1 (one level)      1 + the number of levels
============  =====================  =================================

A single block is summarised once by every paradigm: there is nothing to combine
it with. An empty history is never shown to a writer; its summary is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

from trsr.errors import ConfigError
from trsr.records import Block, Summary
from trsr.summarize.writer import Combine, Describe, Request, Update

Fold = Generator[list[Request], list[Summary], Summary]
"""Yields requests, receives their summaries, returns the final summary."""

Paradigm = Callable[[Sequence[Block]], Fold]
"""Starts the fold of one user's blocks, oldest first."""


def none(blocks: Sequence[Block]) -> Fold:
    """Make no call: the summary is empty."""
    yield from ()
    return Summary("")


def recurrent(blocks: Sequence[Block]) -> Fold:
    """Describe the first block, then update the summary with one block after the other.

    Parameters
    ----------
    blocks
        One user's blocks, oldest first.
    """
    if not blocks:
        return Summary("")
    [summary] = yield [Describe(blocks[0])]
    for block in blocks[1:]:
        [summary] = yield [Update(summary, block)]
    return summary


def hierarchical(blocks: Sequence[Block], fan_in: int) -> Fold:
    """Describe every block alone, then combine the summaries level by level.

    Parameters
    ----------
    blocks
        One user's blocks, oldest first.
    fan_in
        Summaries that one combining call takes, at least 2. A summary left alone
        at the end of a level goes up as it is.

    Raises
    ------
    ConfigError
        When `fan_in` is below 2, since the levels would never end.
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
