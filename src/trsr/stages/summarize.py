"""Histories become preference summaries."""

from __future__ import annotations

from typing import Final

import polars as pl

from trsr.artifacts import RunFolder, read_parquet, write_parquet
from trsr.config import Config
from trsr.data.prepare import Prepared
from trsr.prompts.templates import SUMMARY_TEMPLATES, Templates
from trsr.records import FAILED, ITEM, USER
from trsr.registry import own_source
from trsr.stages.plan import billed, users_of
from trsr.stages.work import Artifact, Made, Say, Work
from trsr.summarize.summarizer import Summarizer
from trsr.summarize.writer import to_frame

_PACE: Final = (
    "base_url", "tokenizer", "api_key_env", "concurrency", "requests_per_minute", "tokens_per_minute",
    "connect_timeout_s", "timeout_s", "max_retries", "patience_s",
)  # fmt: skip
"""Where and how fast a server's answers come: it changes none of them."""


def summarize(work: Work, prepared: Artifact[Prepared]) -> Artifact[pl.DataFrame]:
    """Cut histories into blocks and write preference summaries; see `trsr.summarize.writer` for the table.

    A table in which users have failed is taken up again by the next run.
    """

    def make(config: Config) -> Made:
        table = _write(work, config, prepared.value)
        write_parquet(table, work.folder.summaries)
        failed = table.filter(pl.col(FAILED) != "").height
        return Made([work.folder.summaries], is_partial=failed > 0)

    prompt, summary = work.config.prompt, work.config.summary
    return work.step(
        "summarize",
        "cut histories into blocks, write preference summaries",
        make,
        lambda made: read_parquet(made.path),
        settings=("items", "summary", "prompt.domain"),
        free=(
            *(
                "out",
                "name",
                "cluster",
                "prompt.templates",
                "summary.store",
                "summary.price",
                "summary.limits",
            ),
            *(f"summary.writer.{name}" for name in _PACE),
        ),
        content=[
            prepared.digest,
            Templates(prompt.domain, prompt.templates).versions(SUMMARY_TEMPLATES),
            own_source("writer", summary.writer.kind),
            own_source("paradigm", summary.paradigm),
        ],
    )


def _write(work: Work, config: Config, prepared: Prepared) -> pl.DataFrame:
    users, catalogue = users_of(config, prepared.items, prepared.histories)
    with billed(config, work.folder, users, work.say) as budget:
        if config.cluster.kind == "ray":
            from trsr.cluster.ray import summarize_on_cluster  # noqa: PLC0415  an optional extra

            table = summarize_on_cluster(work.config, prepared.items, prepared.histories, budget)
            author = "the cluster's workers"
        else:
            with Summarizer(config, prepared.items.select(ITEM, *catalogue.fields), budget) as summarizer:
                table = to_frame(summarizer.summarize(users))
                author = summarizer.writer_name or "no one"
    spent = budget.spent
    if spent.calls or spent.calls_reused:
        work.say(f"  {spent.calls:,} calls made, {spent.calls_reused:,} answered from the store")
    failed = table.filter(pl.col(FAILED) != "")
    written = table.height - failed.height
    work.say(f"  {written:,} summaries, {config.summary.paradigm}, written by {author}")
    if failed.height:
        user, reason = failed.select(USER, FAILED).row(0)
        _tell_failed(failed.height, table.height, user, reason, work.say)
    return table


def _tell_failed(failed: int, users: int, first: str, reason: str, say: Say) -> None:
    say(
        f"  {failed:,} of {users:,} users failed and have none, the first is "
        f"{first!r}: {reason}; run the same command again to redo them alone"
    )


def count_failed(folder: RunFolder) -> int:
    """Count the users whose summary could not be written; 0 while there are no summaries."""
    if not folder.summaries.exists():
        return 0
    summaries = read_parquet(folder.summaries)
    # Tables that were written before failures were told have no such column.
    return summaries.filter(pl.col(FAILED) != "").height if FAILED in summaries.columns else 0
