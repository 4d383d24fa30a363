"""The story of a run, top to bottom: prepare, summarize, pretrain, train, score, fuse, evaluate, report.

A stage whose manifest entry is complete for exactly the same settings and inputs
is skipped. A stage that was killed starts again from what it had saved. Under ``torchrun`` all
processes train together; the first one does everything else.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

from trsr.artifacts import RunFolder, sweep, write_text
from trsr.bundle import save_bundle
from trsr.config import Config, dump
from trsr.errors import ConfigError, RunError, TrsrError
from trsr.fusion.companions import WEIGHTS
from trsr.hf import processes
from trsr.stages import evaluate, fuse, prepare, pretrain, report, score, summarize, train
from trsr.stages.stage import Stage
from trsr.users import update_users

STAGES: Final[tuple[Stage, ...]] = (
    prepare.STAGE,
    summarize.STAGE,
    pretrain.STAGE,
    train.STAGE,
    score.STAGE,
    fuse.STAGE,
    evaluate.STAGE,
    report.STAGE,
)
"""All stages in their order; each reads what earlier ones wrote."""


def run(
    config: Config, *, until: str | None = None, serve: bool = True, say: Callable[[str], None] = print
) -> RunFolder:
    """Run every stage that is not complete yet.

    Parameters
    ----------
    config
        The run's settings; `config.folder` is where its artifacts go.
    until
        Name of the last stage to run; None for all.
    serve
        Whether to make what serving reads: users' rows, and the bundle once there is a model.
    say
        Called with one line a stage.

    Returns
    -------
    RunFolder
        The folder with the artifacts.

    Raises
    ------
    ConfigError
        When `until` is not a stage.
    TrsrError
        When a stage fails that others need; what earlier stages wrote stays, and the next run goes on
        from there.
    """
    names = [stage.name for stage in STAGES]
    if until is not None and until not in names:
        message = f"until must be one of {', '.join(names)}, got {until!r}"
        raise ConfigError(message)
    folder = RunFolder(config.folder)
    if processes.count() > 1 and not processes.is_main():
        return _follow(config, folder, until)
    sweep(folder.path)
    write_text(describe_environment() + dump(config), folder.config)
    wanted = STAGES[: names.index(until) + 1 if until else None]
    if processes.count() > 1 and train.STAGE in wanted:
        _lead(folder)
    for stage in wanted:
        fingerprint = stage.fingerprint(config, folder)
        if folder.is_complete(stage.name, fingerprint) and not stage.is_partial(folder):
            say(f"{stage.name}: complete, skipped")
            continue
        say(f"{stage.name}: {stage.purpose}")
        started = time.monotonic()
        try:
            outputs = stage.run(config, folder, say)
        except (TrsrError, ValueError, ArithmeticError) as error:
            if not stage.optional:
                raise
            # What is finished must reach the metrics and the page. No fingerprint: the next run tries again.
            say(f"  left out: {error}")
            folder.mark_complete(stage.name, "", [], time.monotonic() - started)
            continue
        folder.mark_complete(stage.name, fingerprint, outputs, time.monotonic() - started)
        for path in stage.scratch(folder):
            shutil.rmtree(path, ignore_errors=True)
    if serve and summarize.STAGE in wanted:
        _serve(config, folder, wanted, say)
    return folder


def _serve(config: Config, folder: RunFolder, wanted: Sequence[Stage], say: Callable[[str], None]) -> None:
    """Make what serving reads: a row a user, and the bundle of what was trained."""
    update_users(folder)
    if train.STAGE in wanted:
        entry = folder.stages().get(fuse.STAGE.name)
        is_current = entry is not None and entry.fingerprint == fuse.STAGE.fingerprint(config, folder)
        if save_bundle(config, folder, fused=is_current and (folder.fusion / WEIGHTS).exists()):
            say(f"bundle: {folder.bundle}, a folder that ranks and knows no user")


def _lead(folder: RunFolder) -> None:
    """Do what comes before training by one process alone, while the others wait.

    It is a program of its own, because pre-training in this one would wait for the others.
    """
    before = STAGES[STAGES.index(train.STAGE) - 1].name
    command = [sys.executable, "-m", "trsr", before, str(folder.config), "--out", str(folder.path)]
    done = subprocess.run(command, env=processes.alone(os.environ), check=False)
    if done.returncode:
        message = f"what comes before training ended with code {done.returncode}; its message stands above"
        raise RunError(message)
    processes.wait()


def _follow(config: Config, folder: RunFolder, until: str | None) -> RunFolder:
    """Take part in the training alone, once the main process has prepared it."""
    names = [stage.name for stage in STAGES]
    if until is None or names.index(until) >= names.index(train.STAGE.name):
        processes.wait()
        fingerprint = train.STAGE.fingerprint(config, folder)
        if not folder.is_complete(train.STAGE.name, fingerprint):
            train.STAGE.run(config, folder, lambda line: None)
    return folder


def describe_environment() -> str:
    """Comment lines that name the versions a run was made with.

    Examples
    --------
    >>> describe_environment().startswith("# Resolved configuration")
    True
    """
    packages = ("trsr", "torch", "transformers", "peft", "polars", "numpy", "scikit-learn")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    return (
        "# Resolved configuration of this run; `trsr run` on it makes the run again.\n"
        f"# Python {platform.python_version()}, {versions}\n"
    )
