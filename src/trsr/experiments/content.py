"""Everything that a comparison's page, table and JSON say, gathered from the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from trsr.artifacts import hash_value
from trsr.config import Config
from trsr.evaluation.agreement import hit_matrix
from trsr.evaluation.calibration import calibrate
from trsr.evaluation.seeds import average_seeds
from trsr.experiments.choices import Judge
from trsr.experiments.contest import Contest
from trsr.experiments.duels import duels, written_summaries
from trsr.experiments.entry import Entry, sampled_frames, scores_frame, targets_frame
from trsr.experiments.fused import weights_of
from trsr.experiments.outside import OUTSIDE
from trsr.experiments.provenance import provenance
from trsr.experiments.tables import Tables
from trsr.records import Split
from trsr.report.comparison.content import ComparisonContent
from trsr.report.comparison.insights import Agreement, Bin, Calibration, FusedWeight, Fusion
from trsr.report.comparison.provenance import Choice
from trsr.report.comparison.standings import Kind, System


def gather(
    config: Config,
    contest: Contest,
    entries: Sequence[Entry],
    retriever: Choice | None,
    depth: int,
    command: str,
    seconds: float | None = None,
) -> ComparisonContent:
    """Measure all systems on the test users and put together what is to be told.

    Parameters
    ----------
    config
        The run's settings.
    contest
        What was asked.
    entries
        All systems with their answers.
    retriever
        How the retriever of the two-stage ranking was chosen; None when there was none.
    depth
        Items that it handed on.
    command
        The command line.
    seconds
        Wall time of this command.
    """
    judge = Judge(config, contest)
    model, baseline, single = judge.language_model(entries), judge.baseline(entries), judge.single(entries)
    fused = next((entry for entry in entries if entry.kind is Kind.FUSED), None)
    references = [name for name in (fused and fused.name, single and single.chosen) if name]
    tables = Tables(config, contest, judge.measure, references)
    pairs = [(model.chosen, baseline.chosen)] if model and baseline else []
    by_name = {entry.name: entry for entry in entries}
    retrieving = tables.two_stage(entries, retriever.chosen, depth) if retriever else None
    return ComparisonContent(
        name=config.name,
        measure=judge.measure,
        systems=tuple(_system(entry) for entry in entries),
        tables=tuple(
            replace(table, note=f"{table.note} {_alike(config, entries)}".strip())
            for table in (tables.sampled(entries, sampler, pairs) for sampler in contest.samplers)
        ),
        provenance=provenance(
            config,
            contest,
            config.comparison.seeds,
            command,
            seconds,
            "the best row of a table is found on these users, so tests against it "
            "explore, while those against systems chosen on validation users confirm",
            [choice for choice in (retriever, model, baseline, single) if choice is not None],
        ),
        domain=config.prompt.domain,
        items=contest.prepared.items.height,
        language_model=model.chosen if model else "",
        baseline=baseline.chosen if baseline else "",
        catalogue=tables.catalogue(entries),
        two_stage=retrieving,
        calibration=_calibrations(config, contest, entries),
        fusion=_fusion(contest, fused) if fused else None,
        agreement=_agreement(config, contest, entries),
        duels=duels(config, contest, by_name[model.chosen], by_name[baseline.chosen])
        if model and baseline
        else None,
    )


def _system(entry: Entry) -> System:
    cards = [run.card for run in entry.runs]
    outside = OUTSIDE in cards[0].details
    return System(
        name=entry.name,
        kind=entry.kind,
        description="An outside system whose scores were imported." if outside else "",
        training_examples=cards[0].examples,
        training_negatives=cards[0].negatives,
        seconds=None if outside else float(np.mean([card.training_seconds for card in cards])),
        seeds=len(entry.seeds),
    )


def _calibrations(config: Config, contest: Contest, entries: Sequence[Entry]) -> tuple[Calibration, ...]:
    """Measure those who give probabilities, at their first seed, among the run's own candidates."""
    sampler = contest.samplers[0]
    panel = contest.panels[Split.TEST]
    negatives = panel.candidates[sampler].shape[1] - 1
    note = f"{negatives} {sampler} negatives a target, so that 1 candidate in {negatives + 1} is the target; "
    targets = targets_frame(contest, Split.TEST)
    found = []
    for entry in entries:
        if entry.kind is Kind.BASELINE:
            continue
        scores = scores_frame(contest, Split.TEST, sampler, entry.runs[0].scores[Split.TEST][sampler])
        told = calibrate(targets, scores, config.evaluation.bootstrap, config.seed)
        found.append(
            Calibration(
                system=entry.name,
                bins=tuple(Bin(each.predicted, each.observed, each.pairs) for each in told.equal_mass),
                ece=told.ece_equal_mass.mean,
                brier=told.brier.mean,
                note=f"{note}training seed {entry.seeds[0]}.",
            )
        )
    return tuple(found)


def _alike(config: Config, entries: Sequence[Entry]) -> str:
    """Say which forms read the same summaries: their rows compare nothing."""
    told: dict[str, list[str]] = {}
    for entry in entries:
        if entry.kind is Kind.LANGUAGE_MODEL:
            summaries = written_summaries(config, entry.name, entry.seeds[0])
            if any(summaries.values()):
                told.setdefault(hash_value(summaries), []).append(entry.name)
    groups = [" and ".join(names) for names in told.values() if len(names) > 1]
    return "".join(f"The writer gave {names} the same summaries of all users." for names in groups)


def _fusion(contest: Contest, fused: Entry) -> Fusion:
    users = len(contest.panels[Split.VALID].users)
    return Fusion(
        system=fused.name,
        weights=tuple(FusedWeight(name, weight) for name, weight in weights_of(fused).items()),
        fitted_on=(
            f"{users:,} validation users, {' and '.join(contest.samplers)} negatives together; weights are "
            f"means over {len(fused.seeds)} training seeds"
        ),
    )


def _agreement(config: Config, contest: Contest, entries: Sequence[Entry]) -> Agreement:
    sampler, k = contest.samplers[0], config.evaluation.ks[0]
    frames = {
        entry.name: average_seeds(sampled_frames(entry, contest, Split.TEST, sampler, config.evaluation.ks))
        for entry in entries
        if sampler in entry.runs[0].scores[Split.TEST]
    }
    shared = hit_matrix(frames, f"Recall@{k}")
    users = len(contest.panels[Split.TEST].users)
    return Agreement(sampler, k, users, tuple(frames), tuple(tuple(map(float, row)) for row in shared))
