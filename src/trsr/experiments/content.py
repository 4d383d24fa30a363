"""What a comparison tells: where figures come from, single users, calibration; and its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trsr.artifacts import (
    RunFolder,
    hash_value,
    read_parquet,
    replacing,
    write_json,
    write_parquet,
    write_text,
)
from trsr.config import Config, dump
from trsr.data.catalogue import Catalogue
from trsr.evaluation.agreement import hit_matrix
from trsr.evaluation.calibration import calibrate
from trsr.evaluation.metrics import place_target
from trsr.evaluation.statistics import FLIPS, average_seeds
from trsr.experiments.external import OUTSIDE
from trsr.experiments.fused import weights_of
from trsr.experiments.protocol import Contest
from trsr.experiments.scores import Entry, Floats, sampled_frames, scores_frame, targets_frame
from trsr.experiments.selection import Judge
from trsr.experiments.tables import Tables, rounded
from trsr.pipeline import describe_environment
from trsr.records import SUMMARY, USER, Split
from trsr.report.page import render
from trsr.report.results import (
    Agreement,
    Choice,
    FusionWeights,
    Kind,
    Provenance,
    RankedItem,
    RankedList,
    Results,
    System,
    SystemCalibration,
    UserCase,
    UserCases,
    system_rows,
)
from trsr.stages.report import versions_in


def provenance(
    config: Config,
    contest: Contest,
    seeds: Sequence[int],
    command: str,
    seconds: float | None,
    family: str = "",
    choices: Sequence[Choice] = (),
) -> Provenance:
    """Gather what somebody else needs to repeat an experiment.

    `seeds` are those of training, `seconds` the wall time of this command. `family` says which tests Holm's
    method takes together, and what else is to be said of them.
    """
    return Provenance(
        command=command,
        config=dump(config),
        seeds=tuple(seeds),
        split_seed=config.seed,
        versions=versions_in(describe_environment()),
        hashes=dict(contest.hashes),
        users={split.value: len(panel.users) for split, panel in contest.panels.items()},
        choices=tuple(choices),
        seconds=seconds,
        test=(
            f"paired sign-flip permutation test over users, each averaged over seeds first, {FLIPS:,} "
            f"random patterns, p by Holm's method; 95% intervals from {config.evaluation.bootstrap:,} "
            f"resamples of users; {family}"
        ),
    )


_CARDS: Final = 3
_SHOWN: Final = 5
_LINE_CHARS: Final = 120


def user_cases(config: Config, contest: Contest, model: Entry, baseline: Entry) -> UserCases:
    """Show the test users whose target the two rank most differently, at the first training seed."""
    sampler, seed = contest.samplers[0], model.seeds[0]
    panel = contest.panels[Split.TEST]
    scores = [entry.at(seed).scores[Split.TEST][sampler] for entry in (model, baseline)]
    ranks = np.stack([_ranks(table, panel.columns[sampler]) for table in scores])
    ahead = ranks[1] - ranks[0]
    # Equal differences: whoever is ranked best by the winner comes first, then the user's id.
    wins = [user for user in np.lexsort((ranks[0], -ahead)) if ahead[user] > 0][:_CARDS]
    losses = [user for user in np.lexsort((ranks[1], ahead)) if ahead[user] < 0][:_CARDS]
    summaries = written_summaries(config, model.name, seed)
    catalogue = Catalogue(contest.prepared.items)
    lines = [catalogue.line(item, _LINE_CHARS) for item in catalogue.ids]

    def case(user: np.int64) -> UserCase:
        candidates, target = panel.candidates[sampler][user], panel.targets[user]
        rankings = []
        for entry, table, rank in zip((model, baseline), scores, ranks, strict=True):
            first = np.argsort(-table[user], kind="stable")[:_SHOWN]
            items = tuple(
                RankedItem(lines[item], float(table[user, place]), bool(item == target))
                for place, item in zip(first, candidates[first], strict=True)
            )
            rankings.append(RankedList(entry.name, float(rank[user]), items, len(candidates)))
        history = tuple(lines[item] for item in panel.histories[user])
        name = panel.users[user]
        return UserCase(name, history, lines[target], tuple(rankings), summaries.get(name, ""))

    rule = (
        f"The {_CARDS} test users on either side whose target's rank differs most between the language model "
        f"and the best baseline, at training seed {seed}; the first {_SHOWN} places of both."
    )
    groups = {"The language model is ahead": wins, "The language model is behind": losses}
    return UserCases(rule, {name: tuple(map(case, found)) for name, found in groups.items()}, sampler)


def _ranks(scores: Floats, columns: NDArray[np.int64]) -> Floats:
    above, tied = place_target(scores, columns)
    return 1 + above + tied / 2


def written_summaries(config: Config, form: str, seed: int) -> dict[str, str]:
    """Read what one form of the language model was told about each user; empty where nothing was written."""
    folder = RunFolder(config.folder / "comparison" / form / f"run-{seed}")
    if not folder.summaries.exists():
        return {}
    return dict(read_parquet(folder.summaries).select(USER, SUMMARY).iter_rows())


def gather(
    config: Config,
    contest: Contest,
    entries: Sequence[Entry],
    retriever: Choice | None,
    depth: int,
    command: str,
    seconds: float | None = None,
) -> Results:
    """Measure all systems on the test users and put together what is to be told.

    `retriever` tells how the retriever of the two-stage ranking was chosen, None when there was none; `depth`
    is the number of items that it handed on. `seconds` is the wall time of this command.
    """
    judge = Judge(config, contest)
    model, baseline, single = judge.language_model(entries), judge.baseline(entries), judge.single(entries)
    fused = next((entry for entry in entries if entry.kind is Kind.FUSED), None)
    references = [name for name in (fused and fused.name, single and single.chosen) if name]
    tables = Tables(config, contest, judge.measure, references)
    pairs = [(model.chosen, baseline.chosen)] if model and baseline else []
    by_name = {entry.name: entry for entry in entries}
    retrieving = tables.two_stage(entries, retriever.chosen, depth) if retriever else None
    return Results(
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
        cases=user_cases(config, contest, by_name[model.chosen], by_name[baseline.chosen])
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


def _calibrations(
    config: Config, contest: Contest, entries: Sequence[Entry]
) -> tuple[SystemCalibration, ...]:
    """Measure those who give probabilities, at their first seed, among the run's own candidates."""
    sampler = contest.samplers[0]
    negatives = contest.panels[Split.TEST].candidates[sampler].shape[1] - 1
    note = f"{negatives} {sampler} negatives a target, so that 1 candidate in {negatives + 1} is the target; "
    targets, evaluation = targets_frame(contest, Split.TEST), config.evaluation
    found = []
    for entry in entries:
        if entry.kind is not Kind.BASELINE:
            scores = scores_frame(contest, Split.TEST, sampler, entry.runs[0].scores[Split.TEST][sampler])
            measured = calibrate(targets, scores, evaluation.bootstrap, config.seed)
            found.append(SystemCalibration(entry.name, measured, f"{note}training seed {entry.seeds[0]}."))
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


def _fusion(contest: Contest, fused: Entry) -> FusionWeights:
    users = len(contest.panels[Split.VALID].users)
    return FusionWeights(
        system=fused.name,
        weights=weights_of(fused),
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


@dataclass(frozen=True, slots=True)
class Published:
    """Where a comparison's files lie.

    Figures are everything but times, as JSON: the same for every repetition with the same settings. Both
    tables have one row a system; every column says among what its figure was measured.
    """

    figures: Path
    seconds: Path
    csv: Path
    parquet: Path
    page: Path

    @classmethod
    def of(cls, folder: Path) -> Published:
        """Name the files of a comparison in `folder`."""
        return cls(
            figures=folder / "comparison.json",
            seconds=folder / "seconds.json",
            csv=folder / "comparison.csv",
            parquet=folder / "comparison.parquet",
            page=folder / "comparison.html",
        )


def publish(results: Results, folder: Path) -> Published:
    """Write all files, each whole or not at all, the page last."""
    written = Published.of(folder)
    write_json(figures(results), written.figures)
    seconds = {system.name: system.seconds for system in results.systems}
    write_json({"systems": seconds, "command": results.provenance.seconds}, written.seconds)
    table = system_rows(results)
    write_parquet(table, written.parquet)
    with replacing(written.csv) as temporary:
        table.write_csv(temporary)
    write_text(render(results), written.page)
    return written


def figures(results: Results) -> dict[str, Any]:
    """Put everything but times and the command line into JSON values, figures to six digits.

    Users' cards are left to the page.
    """
    told = asdict(replace(results, cases=None))
    told.pop("cases")
    for system in told["systems"]:
        system.pop("seconds")
    for name in ("seconds", "command"):
        told["provenance"].pop(name)
    values: dict[str, Any] = rounded(told)
    return values
