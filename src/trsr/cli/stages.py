"""One command a stage of a run."""

from __future__ import annotations

from pathlib import Path

import typer

import trsr
from trsr.cli.options import ConfigPath, OutFolder, Settings, read_config


def run(config: ConfigPath = None, settings: Settings = None, out: OutFolder = None) -> None:
    """Run every stage: prepare, summarize, train, evaluate, report. Resumes where it was stopped."""
    _run_until(None, config, settings, out)


def prepare(config: ConfigPath = None, settings: Settings = None, out: OutFolder = None) -> None:
    """Read the data, choose users and targets, draw and freeze the candidates."""
    _run_until("prepare", config, settings, out)


def summarize(config: ConfigPath = None, settings: Settings = None, out: OutFolder = None) -> None:
    """Write each user's preference summary (and first whatever it needs)."""
    _run_until("summarize", config, settings, out)


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
