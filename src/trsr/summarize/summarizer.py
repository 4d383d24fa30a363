"""Histories in, preference summaries out: users under way together, each along its paradigm."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from types import TracebackType
from typing import Any, Final, TypeVar

import polars as pl

from trsr.config import Config
from trsr.config.summary import TableWriter
from trsr.errors import DataError, WriterError
from trsr.progress import Progress
from trsr.prompts.item_text import ApproximateTokens, item_line
from trsr.records import Block, Item, Summary, Usage, UserSummary
from trsr.summarize.cost import Budget
from trsr.summarize.keyphrase.vocabulary import Phrasebook
from trsr.summarize.paradigms import Paradigm, cut, cut_by_tokens, open_paradigm
from trsr.summarize.purchases import finish, work_through
from trsr.summarize.sections import Profile
from trsr.summarize.writer import SessionWriter, Unwritten, Writer, open_writer

_UNDER_WAY: Final = 2048
"""Users whose prompts are in memory at once; more than any server answers side by side."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Growth:
    """A user's summary, the blocks it was written from, and those there are now, oldest first.

    `after` begins with the blocks before, the last one perhaps longer. A summary that failed, or has no
    steps, is written from the beginning.
    """

    summary: UserSummary
    before: tuple[Block, ...]
    after: tuple[Block, ...]

    @property
    def kept(self) -> tuple[Summary, ...]:
        """The summaries of the leading blocks that didn't change."""
        same = 0
        while same < min(len(self.before), len(self.after)) and self.before[same] == self.after[same]:
            same += 1
        return self.summary.steps[:same]


def summarize(
    users: Iterable[tuple[str, Sequence[Block]]],
    paradigm: Paradigm,
    writer: Writer | SessionWriter,
    *,
    progress: bool = True,
) -> list[UserSummary]:
    """Summarise every user; none waits for another one.

    A user's blocks come oldest first. Summaries are in the users' order; one that could not be written is
    empty and says why in `failed`. `progress` shows the blocks read, with their rate, the time left and the
    users that failed.

    Raises WriterError when the writer gives up. A writer that pays for its answers has stored those it got,
    so the same call goes on where this one stopped.
    """
    new = [Growth(UserSummary.empty(user_id), (), tuple(blocks)) for user_id, blocks in users]
    return _write(new, paradigm, writer, progress=progress)


def append(
    growths: Sequence[Growth],
    paradigm: Paradigm,
    writer: Writer | SessionWriter,
    *,
    progress: bool = False,
) -> list[UserSummary]:
    """Bring summaries up to date with what was added to the histories.

    `paradigm` is the one that the summaries were written by. Results come in the users' order, with the steps
    of all blocks; their `usage` is that of the new calls alone. A user to whom nothing was added has the
    summary as it was. Raises WriterError when the writer gives up, and DataError when a summary doesn't have
    one step for each block it was written from.
    """
    grown = [growth for growth in growths if growth.before != growth.after or growth.summary.failed]
    for growth in grown:
        if len(growth.summary.steps) != len(growth.before) and not growth.summary.failed:
            message = (
                f"the summary of user {growth.summary.user_id!r} has {len(growth.summary.steps)} steps for "
                f"{len(growth.before)} blocks; it was written by another paradigm or block size: run "
                "`trsr summarize` again"
            )
            raise DataError(message)
    written = iter(_write(grown, paradigm, writer, progress=progress))
    changed = {id(growth) for growth in grown}
    return [next(written) if id(growth) in changed else growth.summary for growth in growths]


def _write(
    growths: Sequence[Growth], paradigm: Paradigm, writer: Writer | SessionWriter, *, progress: bool
) -> list[UserSummary]:
    total = sum(len(growth.after) - len(growth.kept) for growth in growths)
    with Progress("summaries", total, "blocks", shown=progress) as bar:
        return finish(_write_all(growths, paradigm, writer, bar))


async def _write_all(
    growths: Sequence[Growth], paradigm: Paradigm, writer: Writer | SessionWriter, bar: Progress
) -> list[UserSummary]:
    written: dict[int, UserSummary] = {}
    failed = 0

    async def work(waiting: tuple[int, Growth]) -> None:
        nonlocal failed
        place, growth = waiting
        written[place] = await _Scribe(opened, growth, bar).write(paradigm)
        if written[place].failed:
            failed += 1
            bar.note(failed=failed)
        await asyncio.sleep(0)  # a writer that never waits leaves room for an interruption

    async with writer.session() if isinstance(writer, SessionWriter) else nullcontext(writer) as opened:
        await work_through(enumerate(growths), work, min(_UNDER_WAY, len(growths)))
    return [written[place] for place in range(len(growths))]


class _Scribe:
    """The writer as one user's paradigm sees it: knows the user, what is kept, and notes what is written."""

    def __init__(self, writer: Writer, growth: Growth, bar: Progress) -> None:
        self.name = writer.name
        self._writer = writer
        self._user = growth.summary.user_id
        self._blocks = growth.after
        self._bar = bar
        self._kept = growth.kept
        self._steps = dict(enumerate(self._kept))
        self._usage = Usage()
        self._calls: set[asyncio.Task[Any]] = set()
        self._error: Exception | None = None

    async def write(self, paradigm: Paradigm) -> UserSummary:
        """Write the user's summary, or say why there is none."""
        final, failed = Summary(""), ""
        try:
            try:
                final = await paradigm(self, self._blocks)
            except Unwritten as error:
                failed = error.reason
                await self._finish_calls()
        except BaseException:  # it ends the run, and so the calls that nobody waits for any more
            others = [*self._calls]
            for call in others:
                call.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            raise
        if failed:
            self._bar.advance(len(self._blocks) - len(self._steps))
        steps = takewhile(lambda step: step is not None, map(self._steps.get, range(len(self._blocks))))
        return UserSummary(self._user, final, tuple(filter(None, steps)), self._usage, failed)

    async def _finish_calls(self) -> None:
        """Wait for the calls that are under way when one has failed: they are paid for too."""
        while self._calls:
            await asyncio.wait(self._calls)
        if self._error is not None:
            raise self._error

    async def describe(self, block: Block, *, user: str = "") -> Summary:
        return await self._read(block, self._writer.describe, block)

    async def update(self, summary: Summary, block: Block, *, user: str = "") -> Summary:
        return await self._read(block, self._writer.update, summary, block)

    async def combine(self, summaries: Sequence[Summary], *, user: str = "") -> Summary:
        return await self._ask(self._writer.combine, summaries)

    async def edit(self, profile: Profile, block: Block, *, user: str = "") -> Summary:
        verb = getattr(self._writer, "edit", None)
        if verb is None:
            message = (
                f"the writer {self.name!r} has no verb `edit`, which the paradigm sections asks for; give it "
                "one (trsr.summarize.writer.Editor), or set summary.paradigm to recurrent"
            )
            raise WriterError(message)
        return await self._read(block, verb, profile, block)

    async def _read(self, block: Block, verb: Callable[..., Awaitable[Summary]], *asked: object) -> Summary:
        if block.index < len(self._kept):
            return self._kept[block.index]
        summary = await self._ask(verb, *asked)
        if block.index not in self._steps:
            self._bar.advance()
        self._steps[block.index] = summary
        return summary

    async def _ask(self, verb: Callable[..., Awaitable[Summary]], *asked: object) -> Summary:
        call = asyncio.current_task()
        assert call is not None
        self._calls.add(call)
        try:
            summary = await verb(*asked, user=self._user)
            self._usage += summary.usage
            return summary
        except Unwritten as error:
            self._usage += error.usage
            raise
        except Exception as error:  # it ends the run, whoever waits for this call
            self._error = error
            raise
        finally:
            self._calls.discard(call)


class Summarizer:
    """Summarises histories the way one configuration says; the run and the recommender share it.

    From `items` the keyphrase writer learns what is telling; they may also be the vocabulary that was learnt
    from them. Without a `budget`, from which others pay too, it has one of its own, by `summary.limits`.

    Raises ConfigError when there is no such writer or paradigm, ModelError when a local model can't be
    loaded, and StoreError when the store of answers can't be opened.
    """

    def __init__(
        self, config: Config, items: pl.DataFrame | Phrasebook, budget: Budget | None = None
    ) -> None:
        self._config = config
        self._budget = budget or Budget(config.summary.limits, config.summary.price)
        self._paradigm = open_paradigm(config.summary.paradigm, config.summary)
        silent = config.summary.paradigm == "none"
        self._writer = None if silent else open_writer(config, items, self._budget)

    def __enter__(self) -> Summarizer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of what the writer holds open, such as the store of answers."""
        if (close := getattr(self._writer, "close", None)) is not None:
            close()

    @property
    def spent(self) -> Usage:
        """Calls that were paid for so far, and their tokens; answers from the store are free, and counted."""
        return self._budget.spent

    @property
    def writer_name(self) -> str:
        """What writes the summaries; empty for paradigm ``none``."""
        return self._writer.name if self._writer is not None else ""

    def summarize(
        self, users: Iterable[tuple[str, Sequence[Item]]], *, progress: bool = True
    ) -> list[UserSummary]:
        """Summarise each user's history, oldest item first, in the users' order."""
        if self._writer is None:
            return [UserSummary.empty(user_id) for user_id, _ in users]
        blocks = ((user_id, cut_history(history, self._config)) for user_id, history in users)
        written = summarize(blocks, self._paradigm, self._writer, progress=progress)
        reused = sum(summary.usage.calls_reused for summary in written)
        self._budget.spend(Usage(), Usage(calls_reused=reused))
        return written

    def append(self, growths: Sequence[Growth]) -> list[UserSummary]:
        """Bring summaries up to date with what was added to histories; see `append`."""
        if self._writer is None:
            return [UserSummary.empty(growth.summary.user_id) for growth in growths]
        return append(growths, self._paradigm, self._writer)

    def rewrite(self, growth: Growth) -> UserSummary:
        """Write one summary again behind its kept steps, also where the history is as it was."""
        if self._writer is None:
            return UserSummary.empty(growth.summary.user_id)
        return _write([growth], self._paradigm, self._writer, progress=False)[0]


def cut_history(history: Sequence[Item], config: Config) -> tuple[Block, ...]:
    """Cut a history into blocks by items or by tokens, as the configuration says."""
    settings = config.summary
    if isinstance(settings.writer, TableWriter):  # one text, to be taken once
        return cut(history, max(1, len(history)))
    if settings.block_tokens is None:
        return cut(history, settings.block_size)
    tokens = ApproximateTokens()
    line = partial(item_line, tokens=tokens, max_tokens=config.items.max_tokens)
    return cut_by_tokens(history, settings.block_tokens, tokens, line)
