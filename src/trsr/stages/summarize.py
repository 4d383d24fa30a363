"""Histories become preference summaries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trsr.artifacts import RunFolder, read_parquet, write_parquet
from trsr.config import Config
from trsr.data.catalogue import Catalogue
from trsr.prompts.templates import SUMMARY_TEMPLATES, Templates
from trsr.records import HISTORY, ITEM, USER, Usage
from trsr.stages.stage import Say, Stage
from trsr.summarize.summarizer import Summarizer
from trsr.summarize.table import to_frame


def _settings(config: Config) -> Any:
    settings = config.model_dump(mode="json", include={"items", "summary"})
    settings["summary"].pop("store")
    templates = Templates(config.prompt.domain, config.prompt.templates)
    return settings | {"templates": templates.versions(SUMMARY_TEMPLATES)}


def _run(config: Config, folder: RunFolder, say: Say) -> list[Path]:
    items = read_parquet(folder.items)
    histories = read_parquet(folder.histories)
    catalogue = Catalogue(items, config.items.fields)
    summarizer = Summarizer(config, items.select(ITEM, *catalogue.fields))
    users = zip(histories[USER], histories[HISTORY], strict=True)
    written = summarizer.summarize((user, catalogue.items(history)) for user, history in users)
    write_parquet(to_frame(written), folder.summaries)
    usage = sum((summary.usage for summary in written), Usage())
    if usage.prompt_tokens:
        say(
            f"  {usage.calls:,} calls made, {usage.calls_reused:,} answered from the store; "
            f"{usage.prompt_tokens:,} prompt and {usage.completion_tokens:,} completion tokens"
        )
    author = summarizer.writer_name or "no one"
    say(f"  {len(written):,} summaries, {config.summary.paradigm}, written by {author}")
    return [folder.summaries]


STAGE = Stage(
    name="summarize",
    purpose="cut histories into blocks, write preference summaries",
    settings=_settings,
    needs=("prepare",),
    run=_run,
)
