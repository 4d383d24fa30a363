"""Histories become preference summaries, and the bill of them, before the first call and after the last."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import polars as pl

from trsr.artifacts import RunFolder, hash_path, read_parquet, write_json, write_parquet
from trsr.config import Config
from trsr.config.summary import OwnWriter, Price, TableWriter
from trsr.data.dataset import Catalogue
from trsr.data.prepare import Prepared
from trsr.prompts.templates import SUMMARY_TEMPLATES, Templates
from trsr.records import FAILED, HISTORY, ITEM, SUMMARY, USER, Item
from trsr.registry import own_source
from trsr.stages.prepare import tell
from trsr.stages.work import Artifact, Made, Say, Work
from trsr.summarize.cost import Bill, Budget, table
from trsr.summarize.forecast import Forecast, forecast, measure, side_by_side
from trsr.summarize.summarizer import Summarizer
from trsr.summarize.writer import check_table, to_frame

BILL = "bill.json"
"""Planned and actual, side by side, and the bills of earlier commands on the same run folder."""


def plan(config: Config, folder: RunFolder, items: pl.DataFrame, sample: int = 0) -> list[Forecast]:
    """Forecast both paradigms for the users of a prepared run, whose `items` have captions by now.

    First `sample` real calls are made, to know the time and the length of answers; they are stored, and
    thus paid for once. Raises `ArtifactError` when the folder lacks the dataset, `StoreError`, `ModelError`
    or `WriterError` when the store, the tokenizer or the model fails.
    """
    histories = read_parquet(folder.require(folder.histories, "prepare"))
    users, catalogue = users_of(config, items, histories)
    speed = None
    if sample:
        speed = measure(config, items.select(ITEM, *catalogue.fields), users, sample)
    return side_by_side(config, users, speed)


def render(forecasts: list[Forecast]) -> str:
    """Write forecasts as a table, and what the figures rest on below it."""
    notes = list(dict.fromkeys(each.basis for each in forecasts))
    return "\n".join([table([each.bill for each in forecasts]), *notes])


def users_of(
    config: Config, items: pl.DataFrame, histories: pl.DataFrame
) -> tuple[list[tuple[str, list[Item]]], Catalogue]:
    """Give the histories of all users as items, and the catalogue that they are from."""
    catalogue = Catalogue(items, config.items.fields)
    users = zip(histories[USER], histories[HISTORY], strict=True)
    return [(user, list(catalogue.items(history))) for user, history in users], catalogue


@contextmanager
def billed(work: Work, forecast: Forecast, price: Price, name: str = BILL, *, own: bool) -> Iterator[Budget]:
    """Write a bill around the work of a block: planned before it, actual after it, also when it fails.

    The block is given what it may pay from: what earlier blocks have left of `summary.limits`. `own` says
    that somebody's own part does the work, which may pay past the budget.
    """
    say, path = work.say, work.folder.path / name
    budget = Budget(work.limits, price, "images" if name != BILL else "summary")
    earlier = _read_earlier(path)
    planned = replace(forecast, bill=replace(forecast.bill, name="planned"))
    if planned.bill.calls:
        say("\n".join(f"  {line}" for line in [*table([planned.bill]).splitlines(), planned.basis]))
    entry: dict[str, Any] = {"planned": planned.bill.as_json(), "basis": planned.basis, "actual": None}
    write_json(entry | {"finished": False, "earlier": earlier}, path)
    began, finished = time.monotonic(), False
    try:
        yield budget
        finished = True
    finally:
        seconds = time.monotonic() - began
        # What is still reserved was under way when something failed: it may be charged.
        spent = budget.settle()
        actual = Bill.of("actual", spent, spent.calls_reused, seconds, price)
        work.limits = budget.left
        # An own writer may pay past the budget: none of its calls here isn't none at all.
        told = budget.is_known and (spent.calls > 0 or not own)
        entry["actual"] = actual.as_json() if told else None
        write_json(entry | {"finished": finished, "earlier": earlier}, path)
        if not budget.is_known:
            say("  what the workers spent is unknown: the actor that counted it is lost")
        elif actual.calls:
            say("\n".join(f"  {line}" for line in table([planned.bill, actual]).splitlines()))


def _read_earlier(path: Path) -> list[dict[str, Any]]:
    """Return the bills of earlier commands, the newest last; a damaged file is no reason not to run."""
    try:
        last = json.loads(path.read_text(encoding="utf-8"))
        earlier = last.pop("earlier")
    except (OSError, ValueError, AttributeError, KeyError):
        return []
    return [*earlier, last]


PACE: Final = (
    "base_url", "tokenizer", "api_key_env", "concurrency", "requests_per_minute", "tokens_per_minute",
    "connect_timeout_s", "timeout_s", "max_retries", "patience_s",
)  # fmt: skip
"""Where and how fast a server's answers come: it changes none of them."""


def summarize(work: Work, prepared: Artifact[Prepared]) -> Artifact[pl.DataFrame]:
    """Cut histories into blocks and write preference summaries; see `trsr.summarize.writer` for the table.

    A table in which users have failed is taken up again by the next run.
    """

    def make(config: Config) -> Made:
        found = check_table(config, prepared.value.histories[USER].to_list())
        tell(found, work.say)
        table = _write(work, config, prepared.value)
        write_parquet(table, work.folder.summaries)
        failed = table.filter(pl.col(FAILED) != "").height
        return Made([work.folder.summaries], is_partial=failed > 0, findings=found)

    prompt, summary = work.config.prompt, work.config.summary
    return work.step(
        "summarize",
        "cut histories into blocks, write preference summaries",
        make,
        lambda made: read_parquet(made.path),
        settings=("items", "summary", "prompt.domain"),
        free=(
            *("out", "name", "cluster", "prompt.templates"),
            *("summary.store", "summary.price", "summary.limits"),
            *(f"summary.writer.{name}" for name in PACE),
        ),
        content=[
            prepared.digest,
            Templates(prompt.domain, prompt.templates).versions(SUMMARY_TEMPLATES),
            own_source("writer", summary.writer.kind),
            own_source("paradigm", summary.paradigm),
            *([hash_path(summary.writer.path)] if isinstance(summary.writer, TableWriter) else []),
        ],
    )


def _write(work: Work, config: Config, prepared: Prepared) -> pl.DataFrame:
    users, catalogue = users_of(config, prepared.items, prepared.histories)
    own = isinstance(config.summary.writer, OwnWriter)
    with billed(work, forecast(config, users), config.summary.price, own=own) as budget:
        if config.cluster.kind == "ray" and not isinstance(config.summary.writer, TableWriter):
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
    if isinstance(config.summary.writer, TableWriter) and config.summary.paradigm != "none":
        work.say(f"  {table.filter(pl.col(SUMMARY) != '').height:,} summaries, taken from {author}")
    else:
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
