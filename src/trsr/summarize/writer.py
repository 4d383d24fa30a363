"""What a summariser is: three verbs, asked for in a stream of requests; summaries as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import polars as pl

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


@dataclass(frozen=True, slots=True)
class Describe:
    """Asks for a summary of one block alone; `user` is whose block it is, where that is known."""

    block: Block
    user: str = ""


@dataclass(frozen=True, slots=True)
class Update:
    """Asks for the summary so far, brought up to date with the next block."""

    summary: Summary
    block: Block
    user: str = ""


@dataclass(frozen=True, slots=True)
class Combine:
    """Asks for one summary of several, oldest first."""

    summaries: tuple[Summary, ...]
    user: str = ""


Request = Describe | Update | Combine


@dataclass(frozen=True, slots=True)
class Unwritten:
    """Why a request has no summary, while others may still have theirs.

    Parameters
    ----------
    reason
        What happened, in one sentence.
    usage
        What was paid even so.
    """

    reason: str
    usage: Usage = field(default=Usage())


class Writer(Protocol):
    """Writes summaries as they are asked for; the paradigms decide what that is, the runner asks."""

    name: str
    """What wrote the summary, as the report shows it."""

    def write(self, requests: Sequence[Request]) -> Iterator[tuple[int, Summary | Unwritten]]:
        """Yield ``(place of the request, its summary)`` as soon as each is there, in any order.

        Requests that are appended while the summaries are read are answered by the
        same call: an update is asked for when the summary that it goes on from is there.

        Raises
        ------
        WriterError
            When no summary can be had any more; answers that came before are not lost.
        """
        ...


class Verbs(Protocol):
    """A writer that answers at once, in batches: one method a verb, each in its requests' order."""

    def describe(self, requests: Sequence[Describe]) -> list[Summary]:
        """Summarise each block alone."""
        ...

    def update(self, requests: Sequence[Update]) -> list[Summary]:
        """Bring each summary up to date with its next block."""
        ...

    def combine(self, requests: Sequence[Combine]) -> list[Summary]:
        """Join each ordered group of summaries into one."""
        ...


def write_in_batches(verbs: Verbs, requests: Sequence[Request]) -> Iterator[tuple[int, Summary]]:
    """Answer all requests there are, one batch a verb, then those that were appended in the meantime."""
    done = 0
    while done < len(requests):
        new = list(enumerate(requests[done:], start=done))
        done = len(requests)
        describes = [(place, request) for place, request in new if isinstance(request, Describe)]
        updates = [(place, request) for place, request in new if isinstance(request, Update)]
        combines = [(place, request) for place, request in new if isinstance(request, Combine)]
        if describes:
            yield from _placed(describes, verbs.describe([request for _, request in describes]))
        if updates:
            yield from _placed(updates, verbs.update([request for _, request in updates]))
        if combines:
            yield from _placed(combines, verbs.combine([request for _, request in combines]))


def _placed(
    asked: Sequence[tuple[int, Request]], summaries: Sequence[Summary]
) -> Iterator[tuple[int, Summary]]:
    return ((place, summary) for (place, _), summary in zip(asked, summaries, strict=True))


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
