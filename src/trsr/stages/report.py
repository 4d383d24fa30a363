"""The run's artifacts become one self-contained page."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from trsr.artifacts import RunFolder, write_text
from trsr.config import Config
from trsr.config.data import DemoData
from trsr.data.catalogue import Catalogue
from trsr.data.prepare import Prepared
from trsr.evaluation.calibration import calibrate
from trsr.evaluation.metrics import place_target
from trsr.fusion.companions import WEIGHTS
from trsr.fusion.fusion import Fusion
from trsr.ranking.ranker import read_card
from trsr.records import (
    BLOCK_SUMMARIES,
    CALLS,
    CANDIDATES,
    COMPLETION_TOKENS,
    FAILED,
    FUSED,
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
from trsr.report.content import BillLine, Failure, RankedLine, ReportContent, RunCard, TrainingLog, UserCard
from trsr.report.figures import bill_lines
from trsr.report.insights import Calibration, FusedWeight
from trsr.report.insights import Fusion as FusionContent
from trsr.report.page import render
from trsr.stages.plan import BILL
from trsr.stages.train import LOG
from trsr.stages.work import Artifact, Made, Work, path_of

_VERSIONS_LINE = re.compile(r"^# Python (?P<python>[\w.]+), (?P<packages>.*)$", re.MULTILINE)
_LINE_LIMIT = 160


def report(
    work: Work,
    prepared: Artifact[Prepared],
    summaries: Artifact[pl.DataFrame],
    metrics: Artifact[dict[str, Any]],
    scores: Mapping[str, pl.DataFrame],
) -> Artifact[Path]:
    """Write the run's page; `scores` are `USER`, `ITEM` and `SCORE` by system, the language model's first."""

    def make(config: Config) -> Made:
        _write(work.config, work.folder, prepared.value, summaries.value, metrics.value, scores)
        return Made([work.folder.report])

    return work.step(
        "report",
        "write the page",
        make,
        path_of,
        settings=[name for name in Config.model_fields if name != "out"],
        content=[prepared.digest, summaries.digest, metrics.digest],
    )


def _write(
    config: Config,
    folder: RunFolder,
    prepared: Prepared,
    summaries: pl.DataFrame,
    metrics: dict[str, Any],
    systems: Mapping[str, pl.DataFrame],
) -> None:
    own, first = next(iter(systems.items()))
    scores = first.rename({SCORE: P_YES})
    log = json.loads((folder.require(folder.model, "train") / LOG).read_text(encoding="utf-8"))
    content = ReportContent(
        name=config.name,
        system=own,
        metrics=metrics,
        run=_run_card(config, folder, summaries),
        domain=config.prompt.domain,
        catalogue=prepared.items.height,
        log=TrainingLog(
            steps=tuple(entry for entry in log["fine_tuning"] if "loss" in entry),
            epochs=tuple(entry for entry in log["fine_tuning"] if "valid_recall_sum" in entry),
            pretraining=tuple(log["pretraining"]),
        ),
        scores=scores,
        candidates=prepared.candidates,
        histories=prepared.histories,
        cards=_user_cards(config, prepared, summaries, scores),
        findings=prepared.findings,
        failures=_failures(summaries),
        bill=_bill(folder),
        **_fused(config, folder, prepared, own, systems),
    )
    write_text(render(content), folder.report)


def _fused(
    config: Config, folder: RunFolder, prepared: Prepared, own: str, systems: Mapping[str, pl.DataFrame]
) -> dict[str, Any]:
    """Gather what the page says of probabilities, and of the fused ranker when the run has one."""
    test = prepared.candidates.filter(pl.col(SPLIT) == Split.TEST.value)
    resamples, seed = config.evaluation.bootstrap, config.seed
    note = f"{config.candidates.negatives} {config.candidates.sampler} negatives a target, test users."
    frames = {name: systems[name] for name in (own, FUSED) if name in systems}
    found: dict[str, Any] = {}
    if FUSED in frames:
        weights = Fusion.load(folder.fusion / WEIGHTS)
        inputs = tuple(FusedWeight(name, weight) for name, weight in weights.weights.items())
        found = {
            "fused": FUSED,
            "fusion": FusionContent(FUSED, inputs, f"{weights.users:,} validation users"),
        }
    calibration = tuple(
        Calibration.of(name, calibrate(test, frame, resamples, seed), note)
        for name, frame in frames.items()
        if test.height
    )
    return found | {"calibration": calibration}


def _failures(summaries: pl.DataFrame) -> tuple[Failure, ...]:
    # Tables that were written before failures were told have no such column.
    if FAILED not in summaries.columns:
        return ()
    failed = summaries.filter(pl.col(FAILED) != "").sort(USER).select(USER, FAILED)
    return tuple(Failure(user, reason) for user, reason in failed.iter_rows())


def _bill(folder: RunFolder) -> tuple[BillLine, ...]:
    path = folder.path / BILL
    return bill_lines(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else ()


def _run_card(config: Config, folder: RunFolder, summaries: pl.DataFrame) -> RunCard:
    text = folder.require(folder.config, "run").read_text(encoding="utf-8")
    versions = _VERSIONS_LINE.search(text)
    packages = versions["packages"].split(", ") if versions else []
    ranker = read_card(folder.model)
    stages = dict(sorted(folder.entries().items(), key=lambda named: named[1].finished_at))
    calls, prompt, completion = (
        int(summaries[name].sum()) for name in (CALLS, PROMPT_TOKENS, COMPLETION_TOKENS)
    )
    # Of a user with one answer whose tokens nobody told, those of the others aren't known either.
    silent = int(summaries.filter(pl.col(PROMPT_TOKENS).is_null())[CALLS].sum())
    return RunCard(
        config=text,
        versions={
            "ranking model": str(ranker["identity"]),
            "python": versions["python"] if versions else "unknown",
        }
        | {name: version for name, _, version in (package.partition(" ") for package in packages)},
        seeds={"run": config.seed}
        | ({"demo data": config.data.seed} if isinstance(config.data, DemoData) else {}),
        hashes={name: digest for entry in stages.values() for name, digest in entry.outputs.items()},
        seconds={name: entry.seconds for name, entry in stages.items()},
        usage=Usage(calls=calls, prompt_tokens=prompt, completion_tokens=completion, calls_unreported=silent),
        paradigm=config.summary.paradigm,
        writer="" if config.summary.paradigm == "none" else config.summary.writer.kind,
    )


def _user_cards(
    config: Config, prepared: Prepared, summaries: pl.DataFrame, scores: pl.DataFrame
) -> tuple[UserCard, ...]:
    """Show test users drawn by the seed, so that nobody picked the ones that look well."""
    test = prepared.histories.filter(pl.col(SPLIT) == Split.TEST.value).sort(USER)
    size = min(config.evaluation.report_users, test.height)
    drawn = sorted(np.random.default_rng(config.seed).permutation(test.height)[:size].tolist())
    shown = (
        test[drawn]
        .join(prepared.candidates.select(USER, CANDIDATES), on=USER, how="left")
        .join(summaries.select(USER, SUMMARY, BLOCK_SUMMARIES), on=USER, how="left")
    )
    wanted = scores.filter(pl.col(USER).is_in(shown[USER].to_list()))
    p_yes = {(user, item): p for user, item, p in wanted.select(USER, ITEM, P_YES).iter_rows()}
    catalogue = Catalogue(prepared.items)
    return tuple(_user_card(row, p_yes, catalogue) for row in shown.sort(USER).iter_rows(named=True))


def _user_card(row: dict[str, Any], p_yes: dict[tuple[str, str], float], catalogue: Catalogue) -> UserCard:
    user, candidates, target = row[USER], row[CANDIDATES], row[TARGET]
    scores = [p_yes[user, item] for item in candidates]
    above, tied = place_target([scores], [candidates.index(target)])
    order = np.argsort(-np.array(scores), kind="stable")
    return UserCard(
        user_id=user,
        history=_lines(row[HISTORY], catalogue),
        steps=tuple(row[BLOCK_SUMMARIES]),
        summary=row[SUMMARY],
        ranked=tuple(
            RankedLine(_line(candidates[place], catalogue), scores[place], candidates[place] == target)
            for place in order
        ),
        rank=1 + float(above[0]) + float(tied[0]) / 2,
    )


def _lines(items: Sequence[str], catalogue: Catalogue) -> tuple[str, ...]:
    return tuple(_line(item, catalogue) for item in items)


def _line(item_id: str, catalogue: Catalogue) -> str:
    """Show an item by its first text field, which is its title in every format."""
    text = next(iter(catalogue.item(item_id).fields.values()), f"(item {item_id}, no text)")
    return text if len(text) <= _LINE_LIMIT else f"{text[: _LINE_LIMIT - 1].rstrip()}…"
