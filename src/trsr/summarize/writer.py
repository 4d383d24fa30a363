"""What a writer of summaries is: three verbs to be awaited; writers by name; summaries as a table.

One writer writes nothing: `Profiles` gives the texts that somebody has in a table.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

import polars as pl

from trsr.errors import DataError, RunError
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
    Finding,
    Summary,
    Usage,
    UserSummary,
)
from trsr.registry import WRITERS, find_part

if TYPE_CHECKING:
    from trsr.config import Config
    from trsr.config.summary import TableWriter
    from trsr.data.notes import Notes
    from trsr.summarize.cost import Budget
    from trsr.summarize.keyphrase.vocabulary import Phrasebook
    from trsr.summarize.sections import Profile


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


class Editor(Writer, Protocol):
    """A writer that can also edit a profile in sections: what the paradigm ``sections`` needs."""

    async def edit(self, profile: Profile, block: Block, *, user: str = "") -> Summary:
        """Say what the next block changes; the text holds edits, one a line (`trsr.summarize.sections`)."""
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


class Profiles:
    """The texts of a table in the place of a writer: a user's text, whatever is asked, or an empty one.

    The table is read when the first user with an id is asked for.
    """

    def __init__(self, settings: TableWriter) -> None:
        self._settings = settings
        self.name = f"the table {settings.path.name}"

    @cached_property
    def _read(self) -> tuple[dict[str, str], tuple[Finding, ...]]:
        from trsr.data.notes import noting  # noqa: PLC0415  serving users whose text is known reads no table

        return noting(_texts_of)(self._settings)

    def check(self, users: Collection[str] | None = None) -> tuple[Finding, ...]:
        """Read the table, and say what was found in it, also for a run's users where they are known.

        Raises DataError when it can't be read, holds no text, or none for any of the users.
        """
        texts, findings = self._read
        if users is None:
            return findings
        given = len(texts.keys() & set(users))
        path = self._settings.path
        if users and not given:
            message = (
                f"{path}: none of the run's {len(users):,} users has a text: its ids are such as "
                f"{next(iter(texts))!r}, the run's such as {next(iter(users))!r}; name the column of the "
                "data's ids in summary.writer.user_column"
            )
            error = DataError(message)
            error.findings = findings
            raise error
        lacking, others = len(users) - given, len(texts) - given
        told = (
            Finding(
                "given-text",
                f"{given:,} of {len(users):,} users have a text in {path.name}; when it was written is not "
                "known: one that was written from a whole history knows the target, and figures are then too "
                "high",
                given,
                "noted",
            ),
            Finding(
                "no-text",
                f"{lacking:,} of {len(users):,} users have no text and are ranked from their recent "
                "items alone",
                lacking,
                "noted",
            ),
            Finding(
                "unknown-user",
                f"{others:,} users in {path.name} take no part in this run: their texts are not used",
                others,
                "noted",
            ),
        )
        return (*findings, *(finding for finding in told if finding.count))

    async def describe(self, block: Block, *, user: str = "") -> Summary:
        """Give the user's text."""
        return await self.combine((), user=user)

    async def update(self, summary: Summary, block: Block, *, user: str = "") -> Summary:
        """Give the user's text."""
        return await self.combine((), user=user)

    async def combine(self, summaries: Sequence[Summary], *, user: str = "") -> Summary:
        """Give the user's text."""
        return Summary(self._read[0].get(user, "") if user else "")


def open_table(config: Config, items: object, budget: object) -> Profiles:
    """Make the writer of the configuration, whose texts are in a table; see `open_writer`."""
    settings: Any = config.summary.writer
    return Profiles(settings)


def check_table(config: Config, users: Collection[str] | None = None) -> tuple[Finding, ...]:
    """Read the table of texts, where the configuration names one; see `Profiles.check`.

    Long work comes before the summaries: what is wrong with the table is told first.
    """
    settings = config.summary
    is_read = settings.writer.kind == "table" and settings.paradigm != "none"
    return open_table(config, None, None).check(users) if is_read else ()


def _texts_of(settings: TableWriter, notes: Notes) -> dict[str, str]:
    """Read every user's text, ids by the rule for all ids."""
    from trsr.data.ids import id_texts, mended_ids  # noqa: PLC0415  as above
    from trsr.data.notes import FILE, LINE  # noqa: PLC0415
    from trsr.data.readers.tables import read_table  # noqa: PLC0415
    from trsr.data.text_files import require_columns  # noqa: PLC0415

    path, columns = settings.path, settings.text_columns
    if not path.exists():
        message = f"{path}: no such file; summary.writer.path must lead to a table of users and their texts"
        raise DataError(message)
    try:
        table = read_table(path, notes, settings.encoding)
        require_columns(path, table, (settings.user_column, *columns))
        users = id_texts(table[settings.user_column])
    except DataError as error:  # it speaks of the settings of the run's data
        message = str(error).replace("the `data` section", "`summary.writer`")
        raise DataError(message.replace("data.encoding", "summary.writer.encoding")) from error
    for name in columns:
        if table[name].dtype.is_nested():
            message = (
                f"{path}: column {name!r} holds values of type {table[name].dtype}, which are no text; name "
                "another one in summary.writer.text_column"
            )
            raise DataError(message)
    rows = table.select(FILE, LINE, users.alias(USER), _joined(columns).alias(SUMMARY))
    rows = mended_ids(rows, (USER,), notes)
    empty = pl.col(SUMMARY) == ""
    notes.add("empty-text", "rows without a text are left out", "dropped", rows.filter(empty), USER)
    rows = rows.filter(~empty)
    if rows.is_empty():
        message = (
            f"{path}: no user has a text in {', '.join(columns)}; name its column in "
            "summary.writer.text_column"
        )
        raise DataError(message)
    first = pl.col(USER).is_first_distinct()
    message = "further rows of a user are left out: the first with a text is taken"
    notes.add("repeated-user", message, "dropped", rows.filter(~first), USER)
    return dict(rows.filter(first).select(USER, SUMMARY).iter_rows())


def _joined(columns: Sequence[str]) -> pl.Expr:
    """Join columns of text, each after its name where there are several; "" where nothing is in any."""
    from trsr.config.data import NULL_WORDS  # noqa: PLC0415  as above
    from trsr.data.cleaning import is_empty  # noqa: PLC0415

    texts = []
    for name in columns:
        text = pl.col(name).cast(pl.String).str.strip_chars()
        labelled = text if len(columns) == 1 else pl.format("{}: {}", pl.lit(name), text)
        texts.append(pl.when(~is_empty(text, NULL_WORDS)).then(labelled))
    return pl.concat_str(texts, separator="\n", ignore_nulls=True)
