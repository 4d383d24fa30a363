"""One command a stage of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

import trsr
from trsr.cli.options import ConfigPath, OutFolder, Settings, read_config
from trsr.cli.plan import MaxCalls, MaxCost, Measure, caps, show_plan
from trsr.errors import ConfigError

USERS_FAILED: Final = 4
"""Exit code of a run that is whole but for users whose summary could not be written."""


def run(
    config: ConfigPath = None,
    settings: Settings = None,
    out: OutFolder = None,
    max_calls: MaxCalls = None,
    max_cost: MaxCost = None,
) -> None:
    """Run every stage: prepare, summarize, train, evaluate, report. Resumes where it was stopped."""
    _run_until(None, config, [*(settings or []), *caps(max_calls, max_cost)], out)


def prepare(config: ConfigPath = None, settings: Settings = None, out: OutFolder = None) -> None:
    """Read the data, choose users and targets, draw and freeze the candidates."""
    _run_until("prepare", config, settings, out)


def summarize(
    config: ConfigPath = None,
    settings: Settings = None,
    out: OutFolder = None,
    max_calls: MaxCalls = None,
    max_cost: MaxCost = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what it will cost, as `trsr plan` does.")
    ] = False,
    measure: Measure = 0,
) -> None:
    """Write each user's preference summary (and first whatever it needs)."""
    given = [*(settings or []), *caps(max_calls, max_cost)]
    if dry_run:
        show_plan(read_config(config, given, out), measure)
        return
    if measure:
        message = "--measure belongs to --dry-run; a run measures itself (bill.json)"
        raise ConfigError(message)
    _run_until("summarize", config, given, out)


def pretrain(config: ConfigPath = None, settings: Settings = None, out: OutFolder = None) -> None:
    """Pre-train the compact model (and what it needs before)."""
    _run_until("pretrain", config, settings, out)


def train(config: ConfigPath = None, settings: Settings = None, out: OutFolder = None) -> None:
    """Fine-tune the ranking model on answers yes or no (and first whatever it needs)."""
    _run_until("train", config, settings, out)


def evaluate(config: ConfigPath = None, settings: Settings = None, out: OutFolder = None) -> None:
    """Score the frozen candidates and compute the metrics (and first whatever it needs)."""
    _run_until("evaluate", config, settings, out)


def report(config: ConfigPath = None, settings: Settings = None, out: OutFolder = None) -> None:
    """Write the self-contained page report.html (and first whatever it needs)."""
    _run_until("report", config, settings, out)


def _run_until(stage: str | None, path: Path | None, settings: list[str] | None, out: Path | None) -> None:
    config = read_config(
        path, settings, out
    )  # first: a wrong setting is told before anything heavy is loaded
    folder = trsr.run(config, until=stage, say=typer.echo)
    typer.echo(f"Run folder: {folder.path}")
    if stage in (None, "report"):
        typer.echo(f"Report: {folder.report}")
    from trsr.stages.summarize import count_failed  # noqa: PLC0415  polars stays out of `trsr --help`

    if stage != "prepare" and (failed := count_failed(folder)):
        typer.echo(f"{failed:,} users have no summary; run the same command again to redo them", err=True)
        raise typer.Exit(USERS_FAILED)
