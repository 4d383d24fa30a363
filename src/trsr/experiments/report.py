"""A run's page: its systems as a comparison tells of them, and what only a run has to tell."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from trsr.artifacts import RunFolder, write_text
from trsr.config import Config
from trsr.experiments.content import drawn_cases, gather
from trsr.experiments.protocol import EvaluationProtocol
from trsr.experiments.scores import SystemScores, scores_frame
from trsr.experiments.selection import ValidationSelector
from trsr.experiments.systems import LanguageModel
from trsr.experiments.tables import Tables
from trsr.ranking.ranker import read_card
from trsr.records import (
    CALLS,
    COMPLETION_TOKENS,
    FAILED,
    P_YES,
    PROMPT_TOKENS,
    SCORE,
    USER,
    Split,
    Usage,
)
from trsr.report.page import render
from trsr.report.results import Results
from trsr.report.run import BillLine, RunContent, TrainingLog, bill_lines
from trsr.stages.plan import BILL
from trsr.stages.train import LOG
from trsr.stages.work import Artifact, Made, Work, path_of


def report(
    work: Work, protocol: EvaluationProtocol, model: LanguageModel, systems: Sequence[SystemScores]
) -> Artifact[Path]:
    """Write the run's page; the language model is the first of its systems."""

    def make(config: Config) -> Made:
        content = _content(work.config, work.folder, protocol, model, systems)
        write_text(render(content), work.folder.report)
        return Made([work.folder.report])

    return work.step(
        "report",
        "write the page",
        make,
        path_of,
        settings=[name for name in Config.model_fields if name != "out"],
        content=[
            protocol.digest,
            model.digest,
            [[system.name, *(run.digest for run in system.runs)] for system in systems],
        ],
    )


def _content(
    config: Config,
    folder: RunFolder,
    protocol: EvaluationProtocol,
    model: LanguageModel,
    systems: Sequence[SystemScores],
) -> RunContent:
    summaries, own = model.summaries.value, protocol.samplers[0]
    entries = sorted(folder.entries().items(), key=lambda named: named[1].finished_at)
    seconds = {name: entry.seconds for name, entry in entries}
    log = json.loads((model.ranker.path / LOG).read_text(encoding="utf-8"))
    silent = config.summary.paradigm == "none"
    scored = [
        scores_frame(protocol, split, own, systems[0].runs[0].scores[split][own]) for split in protocol.splits
    ]
    return RunContent(
        results=_results(config, folder, protocol, systems, sum(seconds.values())),
        paradigm=config.summary.paradigm,
        writer="" if silent else config.summary.writer.kind,
        usage=_usage(summaries),
        seconds=seconds,
        log=TrainingLog(
            steps=tuple(row for row in log["fine_tuning"] if "loss" in row),
            epochs=tuple(row for row in log["fine_tuning"] if "valid_recall_sum" in row),
            pretraining=tuple(log["pretraining"]),
        ),
        scores=pl.concat(scored).rename({SCORE: P_YES}),
        candidates=protocol.prepared.candidates,
        histories=protocol.prepared.histories,
        findings=protocol.prepared.findings,
        failures=_failures(summaries),
        bill=_bill(folder),
    )


def _results(
    config: Config,
    folder: RunFolder,
    protocol: EvaluationProtocol,
    systems: Sequence[SystemScores],
    seconds: float,
) -> Results:
    """Tell of a run as of a comparison, with the validation users' table and users drawn by the seed."""
    told = gather(config, protocol, systems, f"trsr run {folder.config.name}", seconds)
    measure = ValidationSelector(config, protocol).measure
    valid = Tables(config, protocol, measure, ()).sampled(systems, protocol.samplers[0], split=Split.VALID)
    outputs = [entry.outputs for entry in folder.entries().values()]
    provenance = replace(
        told.provenance,
        config=folder.config.read_text(encoding="utf-8"),
        versions={"ranking model": str(read_card(folder.model)["identity"])} | dict(told.provenance.versions),
        hashes={name: digest for files in outputs for name, digest in files.items()},
        choices=tuple(choice for choice in told.provenance.choices if len(choice.options) > 1),
    )
    return replace(
        told,
        tables=(*told.tables, valid),
        provenance=provenance,
        cases=drawn_cases(protocol, systems[0], config.evaluation.report_users, config.seed),
    )


def _failures(summaries: pl.DataFrame) -> dict[str, str]:
    # Tables that were written before failures were told have no such column.
    if FAILED not in summaries.columns:
        return {}
    return dict(summaries.filter(pl.col(FAILED) != "").sort(USER).select(USER, FAILED).iter_rows())


def _bill(folder: RunFolder) -> tuple[BillLine, ...]:
    path = folder.path / BILL
    return bill_lines(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else ()


def _usage(summaries: pl.DataFrame) -> Usage:
    calls, prompt, completion = (
        int(summaries[name].sum()) for name in (CALLS, PROMPT_TOKENS, COMPLETION_TOKENS)
    )
    # Of a user with one answer whose tokens nobody told, those of the others aren't known either.
    silent = int(summaries.filter(pl.col(PROMPT_TOKENS).is_null())[CALLS].sum())
    return Usage(calls=calls, prompt_tokens=prompt, completion_tokens=completion, calls_unreported=silent)
