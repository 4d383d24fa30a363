"""What a comparison's page tells: where figures come from, single users, tables, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trsr.artifacts import hash_value, versions
from trsr.config import Config, dump
from trsr.data.catalogue import Catalogue
from trsr.evaluation.agreement import hit_matrix
from trsr.evaluation.calibration import calibrate
from trsr.evaluation.metrics import Recall, place_target
from trsr.evaluation.statistics import FLIPS, average_seeds
from trsr.experiments.external import OUTSIDE
from trsr.experiments.fused import weights_of
from trsr.experiments.protocol import EvaluationProtocol
from trsr.experiments.scores import Floats, SystemScores, sampled_frames, scores_frame, targets_frame
from trsr.experiments.selection import ValidationSelector
from trsr.experiments.tables import Tables
from trsr.records import Item, Split
from trsr.report.comparison.results import Choice, ComparisonContent, Kind, Provenance, System
from trsr.report.insights import Agreement, Bin, Calibration, Duel, Duels, FusedWeight, Fusion, Placed


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
_LINE_LIMIT: Final = 120


def duels(protocol: EvaluationProtocol, model: SystemScores, baseline: SystemScores) -> Duels:
    """Show the test users whose target the two rank most differently, at the first training seed."""
    sampler, seed = protocol.samplers[0], model.seeds[0]
    data = protocol.splits[Split.TEST]
    scores = [system.at(seed).scores[Split.TEST][sampler] for system in (model, baseline)]
    ranks = np.stack([_ranks(table, data.columns[sampler]) for table in scores])
    ahead = ranks[1] - ranks[0]
    # Equal differences: whoever is ranked best by the winner comes first, then the user's id.
    wins = [user for user in np.lexsort((ranks[0], -ahead)) if ahead[user] > 0][:_CARDS]
    losses = [user for user in np.lexsort((ranks[1], ahead)) if ahead[user] < 0][:_CARDS]
    catalogue = Catalogue(protocol.prepared.items)
    lines = [_line(catalogue.item(item)) for item in catalogue.ids]

    def card(user: np.int64) -> Duel:
        candidates, target = data.candidates[sampler][user], data.targets[user]
        tops = [
            tuple(
                Placed(lines[candidates[place]], float(table[user, place]), bool(candidates[place] == target))
                for place in np.argsort(-table[user], kind="stable")[:_SHOWN]
            )
            for table in scores
        ]
        return Duel(
            user_id=data.users[user],
            history=tuple(lines[item] for item in data.histories[user]),
            summary=model.summaries.get(data.users[user], ""),
            target=lines[target],
            model_rank=float(ranks[0, user]),
            baseline_rank=float(ranks[1, user]),
            model_top=tops[0],
            baseline_top=tops[1],
        )

    rule = (
        f"The {_CARDS} test users on either side whose target's rank differs most between the two, at "
        f"training seed {seed}."
    )
    return Duels(rule, tuple(map(card, wins)), tuple(map(card, losses)), sampler)


def _ranks(scores: Floats, columns: NDArray[np.int64]) -> Floats:
    above, tied = place_target(scores, columns)
    return 1 + above + tied / 2


def _line(item: Item) -> str:
    text = next(iter(item.fields.values()), f"(item {item.id}, no text)")
    return text if len(text) <= _LINE_LIMIT else f"{text[: _LINE_LIMIT - 1].rstrip()}…"


def gather(
    config: Config,
    protocol: EvaluationProtocol,
    systems: Sequence[SystemScores],
    retriever: Choice | None,
    depth: int,
    command: str,
    seconds: float | None = None,
) -> ComparisonContent:
    """Measure all systems on the test users and put together what is to be told.

    `retriever` tells how the retriever of the two-stage ranking was chosen, None when there was none; `depth`
    is the number of items that it handed on. `seconds` is the wall time of this command.
    """
    judge = ValidationSelector(config, protocol)
    model, baseline, single = judge.language_model(systems), judge.baseline(systems), judge.single(systems)
    fused = next((system for system in systems if system.kind is Kind.FUSED), None)
    references = [name for name in (fused and fused.name, single and single.chosen) if name]
    tables = Tables(config, protocol, judge.measure, references)
    pairs = [(model.chosen, baseline.chosen)] if model and baseline else []
    by_name = {system.name: system for system in systems}
    retrieving = tables.two_stage(systems, retriever.chosen, depth) if retriever else None
    return ComparisonContent(
        name=config.name,
        measure=judge.measure,
        systems=tuple(_system(system) for system in systems),
        tables=tuple(
            replace(table, note=f"{table.note} {_alike(systems)}".strip())
            for table in (tables.sampled(systems, sampler, pairs) for sampler in protocol.samplers)
        ),
        provenance=provenance(
            config,
            protocol,
            config.comparison.seeds,
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
        duels=duels(protocol, by_name[model.chosen], by_name[baseline.chosen])
        if model and baseline
        else None,
    )


def _system(system: SystemScores) -> System:
    cards = [run.info for run in system.runs]
    outside = OUTSIDE in cards[0].details
    return System(
        name=system.name,
        kind=system.kind,
        description="An outside system whose scores were imported." if outside else "",
        training_examples=cards[0].examples,
        training_negatives=cards[0].negatives,
        seconds=None if outside else float(np.mean([card.training_seconds for card in cards])),
        seeds=len(system.seeds),
    )


def _calibrations(
    config: Config, protocol: EvaluationProtocol, systems: Sequence[SystemScores]
) -> tuple[Calibration, ...]:
    """Measure those who give probabilities, at their first seed, among the run's own candidates."""
    sampler = protocol.samplers[0]
    data = protocol.splits[Split.TEST]
    negatives = data.candidates[sampler].shape[1] - 1
    note = f"{negatives} {sampler} negatives a target, so that 1 candidate in {negatives + 1} is the target; "
    targets = targets_frame(protocol, Split.TEST)
    found = []
    for system in systems:
        if system.kind is Kind.BASELINE:
            continue
        scores = scores_frame(protocol, Split.TEST, sampler, system.runs[0].scores[Split.TEST][sampler])
        told = calibrate(targets, scores, config.evaluation.bootstrap, config.seed)
        found.append(
            Calibration(
                system=system.name,
                bins=tuple(Bin(each.predicted, each.observed, each.pairs) for each in told.equal_mass),
                ece=told.ece_equal_mass.mean,
                brier=told.brier.mean,
                note=f"{note}training seed {system.seeds[0]}.",
            )
        )
    return tuple(found)


def _alike(systems: Sequence[SystemScores]) -> str:
    """Say which forms read the same summaries: their rows compare nothing."""
    told: dict[str, list[str]] = {}
    for system in systems:
        if system.kind is Kind.LANGUAGE_MODEL and any(system.summaries.values()):
            told.setdefault(hash_value(dict(system.summaries)), []).append(system.name)
    groups = [" and ".join(names) for names in told.values() if len(names) > 1]
    return "".join(f"The writer gave {names} the same summaries of all users." for names in groups)


def _fusion(protocol: EvaluationProtocol, fused: SystemScores) -> Fusion:
    users = len(protocol.splits[Split.VALID].users)
    return Fusion(
        system=fused.name,
        weights=tuple(FusedWeight(name, weight) for name, weight in weights_of(fused).items()),
        fitted_on=(
            f"{users:,} validation users, {' and '.join(protocol.samplers)} negatives together; weights are "
            f"means over {len(fused.seeds)} training seeds"
        ),
    )


def _agreement(config: Config, protocol: EvaluationProtocol, systems: Sequence[SystemScores]) -> Agreement:
    sampler, k = protocol.samplers[0], config.evaluation.ks[0]
    frames = {
        system.name: average_seeds(sampled_frames(system, protocol, Split.TEST, sampler, [Recall(k=k)]))
        for system in systems
        if sampler in system.runs[0].scores[Split.TEST]
    }
    shared = hit_matrix(frames, f"Recall@{k}")
    users = len(protocol.splits[Split.TEST].users)
    return Agreement(sampler, k, users, tuple(frames), tuple(tuple(map(float, row)) for row in shared))
