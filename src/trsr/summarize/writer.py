"""What a writer of summaries is: three verbs to be awaited; writers by name; summaries as a table."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

import polars as pl

from trsr.errors import RunError
from trsr.records import (
    BLOCK_SUMMARIES,
    CALLS,
    COMPLETION_TOKENS,
    FAILED,
    PROMPT_TOKENS,
    STATE,
    SUMMARY,
    USER,
    Block,
    Summary,
    Usage,
    UserSummary,
)
from trsr.registry import WRITERS, find_part

if TYPE_CHECKING:
    from trsr.config import Config
    from trsr.summarize.cost import Budget
    from trsr.summarize.keyphrase.vocabulary import Phrasebook


class Unwritten(RunError):
    """One summary can't be written, while others may be: its user counts as failed.

    Parameters
    ----------
    reason
        What happened, in one sentence.
    usage
        What was paid even so.
    """

    def __init__(self, reason: str, usage: Usage = Usage()) -> None:  # noqa: B008  a frozen record
        super().__init__(reason)
        self.reason = reason
        self.usage = usage


class Writer(Protocol):
    """Writes summaries; the paradigms decide what is asked for.

    Each verb is awaited for many users at once, inside one event loop, so a writer that waits for others must
    not block it: what blocks goes to a thread (`asyncio.to_thread`). `user` is whose summary it is, empty
    where nobody knows; a writer that keeps nothing of a user may ignore it. A summary may hold a `state`, a
    text for `update` and `combine` to go on from, and the `usage` of its calls.

    For a summary that can't be written while others can, a verb raises `Unwritten`. Where none can be had any
    more it raises `trsr.errors.WriterError`, which ends the run. A writer that has something to close brings
    ``close()``.

    Examples
    --------
    >>> class Titles:
    ...     name = "titles"
    ...
    ...     def __init__(self, **_: object) -> None: ...
    ...
    ...     async def describe(self, block, *, user=""):
    ...         return Summary(", ".join(item.fields["title"] for item in block.items))
    ...
    ...     async def update(self, summary, block, *, user=""):
    ...         return await self.combine([summary, await self.describe(block)])
    ...
    ...     async def combine(self, summaries, *, user=""):
    ...         return Summary("; then ".join(summary.text for summary in summaries))
    """

    name: str
    """What wrote the summary, as the report shows it."""

    async def describe(self, block: Block, *, user: str = "") -> Summary:
        """Summarise one block alone."""
        ...

    async def update(self, summary: Summary, block: Block, *, user: str = "") -> Summary:
        """Bring the summary so far up to date with the next block."""
        ...

    async def combine(self, summaries: Sequence[Summary], *, user: str = "") -> Summary:
        """Join summaries, oldest first, into one."""
        ...


@runtime_checkable
class SessionWriter(Protocol):
    """A writer that holds something for the length of a run, such as connections and queues."""

    name: str

    def session(self) -> AbstractAsyncContextManager[Writer]:
        """Open, inside a running event loop, what has the three verbs."""
        ...


def open_writer(config: Config, items: pl.DataFrame | Phrasebook, budget: Budget) -> Writer | SessionWriter:
    """Make the writer that the configuration names: a built-in one, or anybody's own.

    Its class (or function) is called with these three as keywords.

    Parameters
    ----------
    config
        The whole configuration; ``config.summary.writer`` has the writer's own settings.
    items
        The catalogue, ``item_id`` and one column a text field; for the built-in writer also the vocabulary
        that it has learnt from it.
    budget
        What may be paid for: a writer that pays asks `Budget.allow` before each call.

    Raises
    ------
    ConfigError
        When there is no such writer.
    ModelError, StoreError
        When its model can't be loaded, or its store of answers not be opened.
    """
    made: Any = find_part("writer", config.summary.writer.kind, WRITERS)
    writer: Writer | SessionWriter = made(config=config, items=items, budget=budget)
    return writer


SCHEMA: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    USER: pl.String,
    SUMMARY: pl.String,
    BLOCK_SUMMARIES: pl.List(pl.String),
    STATE: pl.String,
    CALLS: pl.Int64,
    PROMPT_TOKENS: pl.Int64,
    COMPLETION_TOKENS: pl.Int64,
    FAILED: pl.String,
}
"""Columns of the table. `calls` counts the answers that a summary rests on, whether they were made in this
run or an earlier one, so that an interrupted run ends in the same table. Tokens are null where the server
didn't tell those of every answer. `failed` says why a user has no summary although there is a history, and is
empty for all others."""


def to_frame(summaries: Sequence[UserSummary]) -> pl.DataFrame:
    """Make the table, one row a user, in the given order.

    Examples
    --------
    >>> to_frame([UserSummary.empty("u1")]).columns
    ['user_id', 'summary', 'block_summaries', 'state', 'calls', 'prompt_tokens', 'completion_tokens',
     'failed']
    """
    rows = [
        (
            summary.user_id,
            summary.final.text,
            [step.text for step in summary.steps],
            summary.final.state,
            summary.usage.calls + summary.usage.calls_reused,
            None if summary.usage.calls_unreported else summary.usage.prompt_tokens,
            None if summary.usage.calls_unreported else summary.usage.completion_tokens,
            summary.failed,
        )
        for summary in summaries
    ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")
