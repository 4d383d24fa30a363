"""The story of a run, top to bottom: prepare, summarize, train, evaluate, report.

A stage whose manifest entry is complete for exactly the same settings and inputs
is skipped. A stage that was killed starts again from what it had saved.
"""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import time
from collections.abc import Callable
from typing import Final

from trsr.artifacts import RunFolder, write_text
from trsr.config import Config, dump
from trsr.errors import ConfigError
from trsr.stages import evaluate, prepare, report, summarize, train
from trsr.stages.stage import Stage

STAGES: Final[tuple[Stage, ...]] = (prepare.STAGE, summarize.STAGE, train.STAGE, evaluate.STAGE, report.STAGE)
"""All stages in their order; each reads what earlier ones wrote."""


def run(config: Config, *, until: str | None = None, say: Callable[[str], None] = print) -> RunFolder:
    """Run every stage that is not complete yet.

    Parameters
    ----------
    config
        The run's settings; `config.folder` is where its artifacts go.
    until
        Name of the last stage to run; None for all.
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
        When a stage fails; what earlier stages wrote stays, and the next run goes on from there.
    """
    names = [stage.name for stage in STAGES]
    if until is not None and until not in names:
        message = f"until must be one of {', '.join(names)}, got {until!r}"
        raise ConfigError(message)
    folder = RunFolder(config.folder)
    write_text(describe_environment() + dump(config), folder.config)
    for stage in STAGES[: names.index(until) + 1 if until else None]:
        fingerprint = stage.fingerprint(config, folder)
        if folder.is_complete(stage.name, fingerprint):
            say(f"{stage.name}: complete, skipped")
            continue
        say(f"{stage.name}: {stage.purpose}")
        started = time.monotonic()
        outputs = stage.run(config, folder, say)
        folder.mark_complete(stage.name, fingerprint, outputs, time.monotonic() - started)
        for path in stage.scratch(folder):
            shutil.rmtree(path, ignore_errors=True)
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
