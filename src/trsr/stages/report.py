"""The run's artifacts become one self-contained page."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from trsr.artifacts import RunFolder, read_parquet, write_text
from trsr.config import Config
from trsr.data.catalogue import Catalogue
from trsr.data.prepare import Prepared, load
from trsr.errors import ArtifactError
from trsr.evaluation.calibration import calibrate
from trsr.evaluation.metrics import place_target
from trsr.evaluation.statistics import Estimate
from trsr.fusion.companions import WEIGHTS
from trsr.fusion.fusion import Fusion
from trsr.ranking.ranker import read_card
from trsr.records import (
    BLOCK_SUMMARIES,
    CALLS,
    CANDIDATES,
    COMPLETION_TOKENS,
    FAILED,
    HISTORY,
    ITEM,
    P_YES,
    PROMPT_TOKENS,
    SCORE,
    SPLIT,
    SUMMARY,
    TARGET,
    USER,
    Split,
    Usage,
)
from trsr.report.page import render
from trsr.report.results import (
    Choice,
    FusionWeights,
    Kind,
    MetricTable,
    Option,
    Provenance,
    RankedItem,
    RankedList,
    Results,
    System,
    SystemCalibration,
    SystemRow,
    UserCase,
    UserCases,
)
from trsr.report.run import BillLine, RunContent, TrainingLog, bill_lines
from trsr.stages.evaluate import FUSED, system_name
from trsr.stages.plan import BILL
from trsr.stages.stage import Say, Stage
from trsr.stages.train import LOG

_VERSIONS_LINE = re.compile(r"^# Python (?P<python>[\w.]+), (?P<packages>.*)$", re.MULTILINE)
_LINE_CHARS = 160


def _settings(config: Config) -> Any:
    return config.model_dump(mode="json", exclude={"out"})


def _run(config: Config, folder: RunFolder, say: Say) -> list[Path]:
    prepared = load(folder)
    summaries = read_parquet(folder.require(folder.summaries, "summarize"))
    scores = read_parquet(folder.require(folder.scores, "evaluate"))
    log = json.loads((folder.require(folder.model, "train") / LOG).read_text(encoding="utf-8"))
    content = RunContent(
        results=_results(config, folder, prepared, summaries, scores),
        paradigm=config.summary.paradigm,
        writer="" if config.summary.paradigm == "none" else config.summary.writer.kind,
        usage=_usage(summaries),
        seconds=_seconds(folder),
        log=TrainingLog(
            steps=tuple(entry for entry in log["fine_tuning"] if "loss" in entry),
            epochs=tuple(entry for entry in log["fine_tuning"] if "valid_recall_sum" in entry),
            pretraining=tuple(log["pretraining"]),
        ),
        scores=scores,
        candidates=prepared.candidates,
        histories=prepared.histories,
        findings=prepared.findings,
        failures=_failures(summaries),
        bill=_bill(folder),
    )
    write_text(render(content), folder.report)
    return [folder.report]


def _results(
    config: Config, folder: RunFolder, prepared: Prepared, summaries: pl.DataFrame, scores: pl.DataFrame
) -> Results:
    """Read the run's figures into the record that a comparison's page is made of."""
    own, measure = system_name(config), f"NDCG@{max(config.evaluation.ks)}"
    kinds = {own: Kind.LANGUAGE_MODEL, FUSED: Kind.FUSED}
    metrics = json.loads(folder.require(folder.metrics, "evaluate").read_text(encoding="utf-8"))
    tables = metric_tables(metrics, own)
    names = dict.fromkeys(row.system for table in tables for row in table.rows)
    choice = _best_baseline(tables, [name for name in names if name not in kinds], measure)
    weights = Fusion.load(folder.fusion / WEIGHTS) if folder.fused.exists() else None
    return Results(
        name=config.name,
        measure=measure,
        systems=tuple(System(name, kind=kinds.get(name, Kind.BASELINE)) for name in names),
        tables=tables,
        provenance=_provenance(config, folder, prepared, choice),
        domain=config.prompt.domain,
        items=prepared.items.height,
        language_model=own,
        baseline=choice.chosen if choice else "",
        calibration=_calibrations(config, folder, prepared, scores),
        fusion=FusionWeights(FUSED, weights.weights, f"{weights.users:,} validation users")
        if weights
        else None,
        cases=_user_cases(config, prepared, summaries, scores),
    )


def metric_tables(metrics: Mapping[str, Any], own: str) -> tuple[MetricTable, ...]:
    """Read the content of ``metrics.json``: a table a split that has users, the test users first.

    Raises `ArtifactError` when it is of another form, or doesn't hold the system `own`.
    """
    try:
        systems = metrics["systems"]
        if own not in systems:
            message = (
                f"metrics hold no system {own!r} but {', '.join(systems) or 'none'}; run `trsr evaluate`"
            )
            raise ArtifactError(message)
        rows = {
            split: tuple(
                _row(name, by_split[split])
                for name, by_split in systems.items()
                if split in by_split and by_split[split]["users"]
            )
            for split in (Split.TEST, Split.VALID)
        }
        candidates = metrics["negatives"] + 1
        return tuple(
            MetricTable(metrics["sampler"], candidates, found, split=split)
            for split, found in rows.items()
            if found
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        message = f"metrics are not of the form that `trsr evaluate` writes ({error!r}); run it again"
        raise ArtifactError(message) from error


def _row(name: str, entry: Mapping[str, Any]) -> SystemRow:
    # JSON has null for a number that could not be computed.
    def number(value: Any) -> float:
        return float("nan") if value is None else float(value)

    values = {
        metric: Estimate(*(number(value[end]) for end in ("mean", "low", "high")))
        for metric, value in entry["metrics"].items()
    }
    return SystemRow(name, int(entry["users"]), values, entry["tie_rate"])


def _best_baseline(tables: tuple[MetricTable, ...], names: list[str], measure: str) -> Choice | None:
    """Choose the best baseline on the validation users; None when there are none of either."""
    table = next((table for table in tables if table.split == Split.VALID), None)
    rows = [row for row in table.ranked(measure) if row.system in names] if table else []
    if not rows or not table:
        return None
    options = tuple(Option(row.system, row.mean(measure)) for row in rows)
    return Choice("best baseline", f"{measure}, {table.sampler} negatives", options, rows[0].system)


def _calibrations(
    config: Config, folder: RunFolder, prepared: Prepared, scores: pl.DataFrame
) -> tuple[SystemCalibration, ...]:
    """Measure whether the language model's p(yes) holds, and the fused ranker's where the run has one."""
    test = prepared.candidates.filter(pl.col(SPLIT) == Split.TEST.value)
    note = f"{config.candidates.negatives} {config.candidates.sampler} negatives a target, test users."
    frames = {system_name(config): scores.select(USER, ITEM, pl.col(P_YES).alias(SCORE))}
    if folder.fused.exists():
        frames[FUSED] = read_parquet(folder.fused)
    return tuple(
        SystemCalibration(name, calibrate(test, frame, config.evaluation.bootstrap, config.seed), note)
        for name, frame in frames.items()
        if test.height
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


def _seconds(folder: RunFolder) -> dict[str, float]:
    stages = sorted(folder.stages().items(), key=lambda named: named[1].finished_at)
    return {name: entry.seconds for name, entry in stages}


def _provenance(config: Config, folder: RunFolder, prepared: Prepared, choice: Choice | None) -> Provenance:
    text = folder.require(folder.config, "run").read_text(encoding="utf-8")
    users = prepared.histories.group_by(SPLIT).len()
    outputs = [entry.outputs for entry in folder.stages().values()]
    return Provenance(
        command=f"trsr run {folder.config.name}",
        config=text,
        seeds=(config.seed,),
        split_seed=config.seed,
        versions={"ranking model": str(read_card(folder.model)["identity"])} | versions_in(text),
        hashes={name: digest for files in outputs for name, digest in files.items()},
        users=dict(sorted(users.iter_rows())),
        choices=(choice,) if choice else (),
        seconds=sum(_seconds(folder).values()),
    )


def versions_in(text: str) -> dict[str, str]:
    """Read the versions that every run's configuration starts with, by name.

    Examples
    --------
    >>> versions_in("# Python 3.11.2, trsr 0.1.0, numpy 2.3.1")
    {'python': '3.11.2', 'trsr': '0.1.0', 'numpy': '2.3.1'}
    """
    found = _VERSIONS_LINE.search(text)
    if found is None:
        return {"python": "unknown"}
    packages = (package.partition(" ") for package in found["packages"].split(", "))
    return {"python": found["python"]} | {name: version for name, _, version in packages}


def _user_cases(
    config: Config, prepared: Prepared, summaries: pl.DataFrame, scores: pl.DataFrame
) -> UserCases | None:
    """Show test users drawn by the seed, so that nobody picked the ones that look well."""
    test = prepared.histories.filter(pl.col(SPLIT) == Split.TEST.value).sort(USER)
    size = min(config.evaluation.report_users, test.height)
    if not size:
        return None
    drawn = sorted(np.random.default_rng(config.seed).permutation(test.height)[:size].tolist())
    shown = (
        test[drawn]
        .join(prepared.candidates.select(USER, CANDIDATES), on=USER, how="left")
        .join(summaries.select(USER, SUMMARY, BLOCK_SUMMARIES), on=USER, how="left")
    )
    wanted = scores.filter(pl.col(USER).is_in(shown[USER].to_list()))
    p_yes = {(user, item): p for user, item, p in wanted.select(USER, ITEM, P_YES).iter_rows()}
    catalogue, system = Catalogue(prepared.items), system_name(config)
    cases = tuple(_user_case(row, p_yes, catalogue, system) for row in shown.sort(USER).iter_rows(named=True))
    rule = "They are test users drawn by the seed: nobody picked those that look well."
    return UserCases(rule, {"": cases}, config.candidates.sampler)


def _user_case(
    row: dict[str, Any], p_yes: dict[tuple[str, str], float], catalogue: Catalogue, system: str
) -> UserCase:
    user, candidates, target = row[USER], row[CANDIDATES], row[TARGET]
    scores = [p_yes[user, item] for item in candidates]
    above, tied = place_target([scores], [candidates.index(target)])
    items = tuple(
        RankedItem(catalogue.line(candidates[place], _LINE_CHARS), scores[place], candidates[place] == target)
        for place in np.argsort(-np.array(scores), kind="stable")
    )
    ranking = RankedList(system, 1 + float(above[0]) + float(tied[0]) / 2, items, len(candidates))
    return UserCase(
        user_id=user,
        history=tuple(catalogue.line(item, _LINE_CHARS) for item in row[HISTORY]),
        target=catalogue.line(target, _LINE_CHARS),
        rankings=(ranking,),
        summary=row[SUMMARY],
        steps=tuple(row[BLOCK_SUMMARIES]),
    )


STAGE = Stage(
    name="report",
    purpose="write the page",
    settings=_settings,
    needs=("prepare", "summarize", "train", "score", "fuse", "evaluate"),
    run=_run,
)
