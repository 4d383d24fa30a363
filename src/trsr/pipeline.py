"""The story of a run: prepare, caption, summarize, pretrain, train, score, fuse, evaluate, report.

A step whose result is complete for exactly the same settings and content is read again instead of made. A
step that was killed starts again from what it had saved. Under ``torchrun`` all processes train together; the
first one does everything else.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Final

import polars as pl

from trsr.artifacts import RunFolder, sweep, versions, write_text
from trsr.bundle import save_bundle
from trsr.config import Config, dump
from trsr.config.ranking import EndpointModel
from trsr.errors import USERS_FAILED, ConfigError, RunError, TrsrError
from trsr.experiments.fused import fuse
from trsr.experiments.protocol import EvaluationProtocol, require_users, run_protocol
from trsr.experiments.report import report
from trsr.experiments.scores import SystemScores, evaluate
from trsr.experiments.systems import Baselines, LanguageModel
from trsr.hf import processes
from trsr.records import FUSED, IN_CATALOGUE
from trsr.registry import path_name
from trsr.report.results import Kind
from trsr.stages.caption import caption
from trsr.stages.prepare import prepare
from trsr.stages.summarize import summarize
from trsr.stages.train import pretrain, train
from trsr.stages.untrained import stand
from trsr.stages.work import Work
from trsr.users import update_users

STEPS: Final = ("prepare", "caption", "summarize", "pretrain", "train", "score", "fuse", "evaluate", "report")
"""All steps in their order; each reads what earlier ones made."""


def run(config: Config, *, until: str | None = None, say: Callable[[str], None] = print) -> RunFolder:
    """Take every step that is not complete yet.

    Parameters
    ----------
    config
        The run's settings; `config.folder` is where its artifacts go.
    until
        Name of the last step to take; None for all.
    say
        Called with one line a step.

    Returns
    -------
    RunFolder
        The folder with the artifacts.

    Raises
    ------
    ConfigError
        When `until` is not a step, or what is measured are rows of users and not users.
    TrsrError
        When a step fails that others need; what earlier steps made stays, and the next run goes on
        from there.
    """
    if until is not None and until not in STEPS:
        message = f"until must be one of {', '.join(STEPS)}, got {until!r}"
        raise ConfigError(message)
    if until != "prepare":
        require_users(config, "trsr run")
    folder = RunFolder(config.folder)
    trains = until is None or STEPS.index(until) >= STEPS.index("train")
    if not processes.is_main():
        if trains:
            _follow(config, folder)
        return folder
    sweep(folder.path)
    made_with = ", ".join(f"{name} {version}" for name, version in versions().items())
    first = "# Resolved configuration of this run; `trsr run` on it makes the run again."
    write_text(f"{first}\n# {made_with}\n{dump(config)}", folder.config)
    together = processes.count() > 1 and trains
    if together:
        _lead(folder)
    work = Work(config, folder, say, together=together)
    for step in _story(work):
        if step == until:
            break
    if until in ("train", "score"):  # what ranks is there, without a fused ranker where that is older
        entries = folder.entries()
        fused = entries.get(f"scores/{FUSED}")
        _bundle(work, fused=fused is not None and fused.finished_at >= entries["train"].finished_at)
    return folder


def _story(work: Work) -> Iterator[str]:
    """Take the steps one after the other; each is named when it is done."""
    prepared = prepare(work)
    yield "prepare"
    prepared = caption(work, prepared)
    yield "caption"
    summaries = summarize(work, prepared)
    update_users(work.folder, lambda: (prepared.value.histories, prepared.value.candidates, summaries.value))
    yield "summarize"
    start = pretrain(work, prepared)
    yield "pretrain"
    trains = work.config.trains
    ranker = train(work, prepared, summaries, start) if trains else stand(work, prepared, start)
    yield "train"
    protocol = run_protocol(work.config, prepared)
    model = LanguageModel(work.config, summaries, start, ranker)
    baselines = Baselines(work, protocol, kept=work.config.fusion.companions)
    systems = _score(work, protocol, model, baselines)
    yield "score"
    systems += _fuse(work, protocol, model, systems, baselines)
    fused = any(system.kind is Kind.FUSED for system in systems)
    _bundle(work, fused=fused, items=protocol.prepared.items)
    yield "fuse"
    evaluate(work, protocol, systems)
    yield "evaluate"
    report(work, protocol, model, systems)
    yield "report"


def _score(
    work: Work, protocol: EvaluationProtocol, model: LanguageModel, baselines: Baselines
) -> list[SystemScores]:
    """Let the language model and the baselines score the frozen candidates."""
    names, seed = work.config.evaluation.baselines, work.config.training_seed
    # First of all: a baseline that can't be had is told before the long work.
    baselines.require(names)
    purpose = "score the frozen candidates"
    scored = model.scores(work, model.name, protocol, purpose=purpose)
    return [
        model.system(scored.value, seed),
        *(baselines.system(name, seed, purpose=purpose) for name in names),
    ]


def _fuse(
    work: Work,
    protocol: EvaluationProtocol,
    model: LanguageModel,
    systems: list[SystemScores],
    baselines: Baselines,
) -> list[SystemScores]:
    """Join the language model with its companions; give the fused ranker, and companions that are new."""
    try:
        # Behind a server every retrieved item would be a call, and nothing could be served.
        asked = None if isinstance(work.config.model, EndpointModel) else model
        fused = fuse(work, protocol, systems, baselines, asked)
    except (TrsrError, ValueError, ArithmeticError) as error:
        # What is finished must reach the metrics and the page; the next run tries again.
        work.say(f"  left out: {error}")
        fused = []
    # What a run with other settings left behind must not be taken for this run's.
    if not fused:
        shutil.rmtree(work.folder.fusion, ignore_errors=True)
    names = {path_name(system.name) for system in (*systems, *fused)}
    names |= {
        f"{path_name(each.name)}{IN_CATALOGUE}" for each in (*systems, *fused) if each.runs[0].catalogue
    }
    for path in work.folder.scores.glob("*.parquet"):
        if path.stem not in names:
            path.unlink()
    return fused


def _bundle(work: Work, *, fused: bool, items: pl.DataFrame | None = None) -> None:
    """Make the folder that ranks, unless it is there for what was trained."""
    if isinstance(work.config.model, EndpointModel):
        work.say("  no bundle: the ranking model is behind a server")
        return
    if save_bundle(work.config, work.folder, items, fused=fused):
        work.say(f"  {work.folder.bundle} ranks by itself and knows no user")


def _lead(folder: RunFolder) -> None:
    """Do what comes before training by one process alone, while the others wait.

    It is a program of its own, because pre-training in this one would wait for the others.
    """
    command = [sys.executable, "-m", "trsr", "pretrain", str(folder.config), "--out", str(folder.path)]
    done = subprocess.run(command, env=processes.alone(os.environ), check=False)
    if done.returncode not in (0, USERS_FAILED):
        message = f"what comes before training ended with code {done.returncode}; its message stands above"
        raise RunError(message)
    processes.wait()


def _follow(config: Config, folder: RunFolder) -> None:
    """Take part in the training alone, once the main process has prepared it."""
    processes.wait()
    for step in _story(Work(config, folder, lambda line: None, together=True)):
        if step == "train":
            return
