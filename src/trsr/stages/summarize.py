"""Histories become preference summaries."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import polars as pl

from trsr.artifacts import RunFolder, read_parquet, write_parquet
from trsr.config import Config
from trsr.prompts.templates import SUMMARY_TEMPLATES, Templates
from trsr.records import FAILED, ITEM, USER
from trsr.registry import own_source
from trsr.stages.plan import billed, read_users
from trsr.stages.stage import Say, Stage
from trsr.summarize.summarizer import Summarizer
from trsr.summarize.writer import to_frame

_PACE: Final = (
    "base_url", "tokenizer", "api_key_env", "concurrency", "requests_per_minute", "tokens_per_minute",
    "connect_timeout_s", "timeout_s", "max_retries", "patience_s",
)  # fmt: skip


def _settings(config: Config) -> Any:
    settings = config.model_dump(mode="json", include={"items", "summary"})
    # Where and how fast answers come, and what they may cost, changes none of them.
    for name in ("store", "price", "limits"):
        settings["summary"].pop(name)
    for name in _PACE:
        settings["summary"]["writer"].pop(name, None)
    templates = Templates(config.prompt.domain, config.prompt.templates)
    summary = config.summary
    return settings | {
        "templates": templates.versions(SUMMARY_TEMPLATES),
        "own": [own_source("writer", summary.writer.kind), own_source("paradigm", summary.paradigm)],
    }


def _run(config: Config, folder: RunFolder, say: Say) -> list[Path]:
    items = read_parquet(folder.items)
    users, catalogue = read_users(config, folder)
    with billed(config, folder, users, say) as budget:
        if config.cluster.kind == "ray":
            from trsr.cluster.ray import summarize_on_cluster  # noqa: PLC0415  an optional extra

            table = summarize_on_cluster(config, items, read_parquet(folder.histories), budget)
            author = "the cluster's workers"
        else:
            with Summarizer(config, items.select(ITEM, *catalogue.fields), budget) as summarizer:
                table = to_frame(summarizer.summarize(users))
                author = summarizer.writer_name or "no one"
        write_parquet(table, folder.summaries)
    spent = budget.spent
    if spent.calls or spent.calls_reused:
        say(f"  {spent.calls:,} calls made, {spent.calls_reused:,} answered from the store")
    failed = table.filter(pl.col(FAILED) != "")
    say(f"  {table.height - failed.height:,} summaries, {config.summary.paradigm}, written by {author}")
    if failed.height:
        user, reason = failed.select(USER, FAILED).row(0)
        _tell_failed(failed.height, table.height, user, reason, say)
    return [folder.summaries]


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


STAGE = Stage(
    name="summarize",
    purpose="cut histories into blocks, write preference summaries",
    settings=_settings,
    needs=("prepare",),
    run=_run,
    is_partial=lambda folder: count_failed(folder) > 0,
)
