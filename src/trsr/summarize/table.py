"""User summaries as a table: `summaries.parquet`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

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
    UserSummary,
)

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
