"""What runs and comparisons tell: where figures come from, single users, calibration; files and pages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from trsr.artifacts import RunFolder, hash_value, replacing, versions, write_json, write_parquet, write_text
from trsr.baselines.training_data import NOTHING
from trsr.config import Config, dump
from trsr.config.summary import TableWriter
from trsr.data.dataset import Catalogue
from trsr.evaluation.agreement import hit_matrix
from trsr.evaluation.calibration import calibrate
from trsr.evaluation.metrics import Recall, place_target
from trsr.evaluation.statistics import FLIPS, average_seeds
from trsr.experiments.fused import weights_of
from trsr.experiments.protocol import EvaluationProtocol
from trsr.experiments.scores import Floats, SystemScores, sampled_frames, scores_frame, targets_frame
from trsr.experiments.systems import DESCRIPTION, OUTSIDE, LanguageModel
from trsr.experiments.tables import Tables, ValidationSelector, plain_names, rounded
from trsr.ranking.ranker import read_card
from trsr.records import (
    CALLS,
    COMPLETION_TOKENS,
    FAILED,
    P_YES,
    PROFILES,
    PROMPT_TOKENS,
    SCORE,
    USER,
    Split,
    Usage,
)
from trsr.report.bill import BillLine, read_bill
from trsr.report.page import RunContent, TrainingLog, render
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
from trsr.stages.summarize import BILL
from trsr.stages.train import LOG
from trsr.stages.work import Artifact, Made, Work, path_of


def provenance(
    config: Config,
    protocol: EvaluationProtocol,
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
        versions={name.lower(): version for name, version in versions().items()},
        hashes=dict(protocol.hashes),
        users={split.value: len(data.users) for split, data in protocol.splits.items()},
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
_LINE_CHARS: Final = 160


def user_cases(protocol: EvaluationProtocol, model: SystemScores, baseline: SystemScores) -> UserCases:
    """Show the test users whose target the two rank most differently, at the first training seed."""
    ranks = np.stack([_ranks(protocol, system, model.seeds[0]) for system in (model, baseline)])
    ahead = ranks[1] - ranks[0]
    # Equal differences: whoever is ranked best by the winner comes first, then the user's id.
    wins = [user for user in np.lexsort((ranks[0], -ahead)) if ahead[user] > 0][:_CARDS]
    losses = [user for user in np.lexsort((ranks[1], ahead)) if ahead[user] < 0][:_CARDS]
    rule = (
        f"The {_CARDS} test users on either side whose target's rank differs most between the language model "
        f"and the best baseline, at training seed {model.seeds[0]}; the first {_SHOWN} places of both."
    )
    groups = {
        "The language model is ahead": _cases(protocol, [model, baseline], wins, _SHOWN),
        "The language model is behind": _cases(protocol, [model, baseline], losses, _SHOWN),
    }
    return UserCases(rule, groups, protocol.samplers[0])


def drawn_cases(protocol: EvaluationProtocol, model: SystemScores, count: int, seed: int) -> UserCases | None:
    """Show test users drawn by the seed, so that nobody picked the ones that look well."""
    users = len(protocol.splits[Split.TEST].users)
    drawn = sorted(np.random.default_rng(seed).permutation(users)[:count])
    if not drawn:
        return None
    rule = "They are test users drawn by the seed: nobody picked those that look well."
    return UserCases(rule, {"": _cases(protocol, [model], drawn, None)}, protocol.samplers[0])


def _cases(
    protocol: EvaluationProtocol,
    systems: Sequence[SystemScores],
    users: Sequence[np.int64],
    shown: int | None,
) -> tuple[UserCase, ...]:
    """Show how systems rank the candidates of some test users, the first one's summaries beside it."""
    data, sampler, seed = protocol.splits[Split.TEST], protocol.samplers[0], systems[0].seeds[0]
    catalogue = Catalogue(protocol.prepared.items)
    lines = [catalogue.line(item, _LINE_CHARS) for item in catalogue.ids]
    ranks = [_ranks(protocol, system, seed) for system in systems]

    def case(user: np.int64) -> UserCase:
        candidates, target, name = data.candidates[sampler][user], data.targets[user], data.users[user]
        rankings = []
        for system, rank in zip(systems, ranks, strict=True):
            scores = system.at(seed).scores[Split.TEST][sampler][user]
            first = np.argsort(-scores, kind="stable")[: (candidates != NOTHING).sum()][:shown]
            items = tuple(
                RankedItem(lines[candidates[at]], float(scores[at]), bool(candidates[at] == target))
                for at in first
            )
            asked = int((candidates != NOTHING).sum())
            rankings.append(RankedList(system.name, float(rank[user]), items, asked))
        history = tuple(lines[item] for item in data.histories[user])
        summary, steps = systems[0].summaries.get(name, ""), systems[0].steps.get(name, ())
        return UserCase(name, history, lines[target], tuple(rankings), summary, tuple(steps))

    return tuple(map(case, users))


def _ranks(protocol: EvaluationProtocol, system: SystemScores, seed: int) -> Floats:
    """Give every test user's rank of the target among the run's own candidates, equal scores in the mean."""
    sampler = protocol.samplers[0]
    columns = protocol.splits[Split.TEST].columns[sampler]
    above, tied = place_target(system.at(seed).scores[Split.TEST][sampler], columns)
    return 1 + above + tied / 2


def gather(
    config: Config,
    protocol: EvaluationProtocol,
    systems: Sequence[SystemScores],
    command: str,
    seconds: float | None = None,
    retriever: Choice | None = None,
    depth: int = 0,
    pairs: Sequence[tuple[str, str]] = (),
) -> Results:
    """Measure all systems on the test users and put together what is to be told.

    `retriever` tells how the retriever of the two-stage ranking was chosen, None when there was none; `depth`
    is the number of items that it handed on. `seconds` is the wall time of this command. `pairs` of systems
    are tested beside those that the page's answers need.
    """
    judge = ValidationSelector(config, protocol)
    model, baseline, single = judge.language_model(systems), judge.baseline(systems), judge.single(systems)
    fused = next((system for system in systems if system.kind is Kind.FUSED), None)
    references = [name for name in (fused and fused.name, single and single.chosen) if name]
    tables = Tables(config, protocol, judge.measure, references, pairs)
    quoted = [(model.chosen, baseline.chosen)] if model and baseline else []
    by_name = {system.name: system for system in systems}
    retrieving = tables.two_stage(systems, retriever.chosen, depth) if retriever else None
    return Results(
        name=config.name,
        measure=judge.measure,
        systems=tuple(_system(system) for system in systems),
        tables=tuple(
            replace(table, note=f"{table.note} {_alike(systems)}".strip())
            for table in (tables.sampled(systems, sampler, quoted) for sampler in protocol.samplers)
        ),
        provenance=provenance(
            config,
            protocol,
            next((system.seeds for system in systems if system.kind is not Kind.BASELINE), (config.seed,)),
            command,
            seconds,
            "the best row of a table is found on these users, so tests against it "
            "explore, while those against systems chosen on validation users confirm",
            [choice for choice in (retriever, model, baseline, single) if choice is not None],
        ),
        domain=config.prompt.domain,
        items=protocol.prepared.items.height,
        language_model=model.chosen if model else "",
        baseline=baseline.chosen if baseline else "",
        catalogue=tables.catalogue(systems),
        two_stage=retrieving,
        calibration=_calibrations(config, protocol, systems),
        fusion=_fusion(protocol, fused) if fused else None,
        agreement=_agreement(config, protocol, systems),
        cases=user_cases(protocol, by_name[model.chosen], by_name[baseline.chosen])
        if model and baseline
        else None,
        rows=config.split.protocol != "users",
    )


def _system(system: SystemScores) -> System:
    cards = [run.info for run in system.runs]
    outside = OUTSIDE in cards[0].details
    return System(
        name=system.name,
        kind=system.kind,
        description="An outside system whose scores were imported."
        if outside
        else str(cards[0].details.get(DESCRIPTION, "")),
        training_examples=cards[0].examples,
        training_negatives=cards[0].negatives,
        seconds=None if outside else float(np.mean([card.training_seconds for card in cards])),
        seeds=len(system.seeds),
    )


def _calibrations(
    config: Config, protocol: EvaluationProtocol, systems: Sequence[SystemScores]
) -> tuple[SystemCalibration, ...]:
    """Measure those who give probabilities, at their first seed, among the run's own candidates."""
    sampler = protocol.samplers[0]
    negatives = protocol.splits[Split.TEST].candidates[sampler].shape[1] - 1
    note = f"{negatives} {sampler} negatives a target, so that 1 candidate in {negatives + 1} is the target; "
    targets, evaluation = targets_frame(protocol, Split.TEST), config.evaluation
    found: list[SystemCalibration] = []
    if protocol.config.split.protocol != "users":  # intervals would be over rows, and one positive is assumed
        return ()
    for system in systems:
        if system.kind is not Kind.BASELINE:
            scores = scores_frame(protocol, Split.TEST, sampler, system.runs[0].scores[Split.TEST][sampler])
            measured = calibrate(targets, scores, evaluation.bootstrap, config.seed)
            found.append(SystemCalibration(system.name, measured, f"{note}training seed {system.seeds[0]}."))
    return tuple(found)


def _alike(systems: Sequence[SystemScores]) -> str:
    """Say which forms read the same summaries: their rows compare nothing."""
    told: dict[str, list[str]] = {}
    for system in systems:
        if system.kind is Kind.LANGUAGE_MODEL and any(system.summaries.values()):
            told.setdefault(hash_value(dict(system.summaries)), []).append(system.name)
    groups = [" and ".join(names) for names in told.values() if len(names) > 1]
    return "".join(f"The writer gave {names} the same summaries of all users." for names in groups)


def _fusion(protocol: EvaluationProtocol, fused: SystemScores) -> FusionWeights:
    users = len(protocol.splits[Split.VALID].users)
    return FusionWeights(
        system=fused.name,
        weights=weights_of(fused),
        fitted_on=(
            f"{users:,} validation users, {' and '.join(protocol.samplers)} negatives together; weights are "
            f"means over {len(fused.seeds)} training seeds"
        ),
    )


def _agreement(config: Config, protocol: EvaluationProtocol, systems: Sequence[SystemScores]) -> Agreement:
    sampler, k = protocol.samplers[0], config.evaluation.ks[0]
    frames = {
        system.name: plain_names(
            average_seeds(sampled_frames(system, protocol, Split.TEST, sampler, [Recall(k=k)]))
        )
        for system in systems
        if sampler in system.runs[0].scores[Split.TEST]
    }
    shared = hit_matrix(frames, f"Recall@{k}")
    users = len(protocol.splits[Split.TEST].users)
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
    writer = config.summary.writer
    table = writer.path.name if isinstance(writer, TableWriter) and not silent else None
    return RunContent(
        results=_results(config, folder, protocol, systems, sum(seconds.values())),
        paradigm=PROFILES if table else config.summary.paradigm,
        writer="" if silent else f"the table {table}" if table else writer.kind,
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
        findings=(*protocol.prepared.findings, *model.summaries.findings, *model.ranker.findings),
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
    return read_bill(folder.path / BILL)


def _usage(summaries: pl.DataFrame) -> Usage:
    calls, prompt, completion = (
        int(summaries[name].sum()) for name in (CALLS, PROMPT_TOKENS, COMPLETION_TOKENS)
    )
    # Of a user with one answer whose tokens nobody told, those of the others aren't known either.
    silent = int(summaries.filter(pl.col(PROMPT_TOKENS).is_null())[CALLS].sum())
    return Usage(calls=calls, prompt_tokens=prompt, completion_tokens=completion, calls_unreported=silent)
