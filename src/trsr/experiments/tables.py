"""Who takes part, what validation users choose, and the tables in figures that every repetition gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, get_args

import polars as pl

from trsr.config import Config
from trsr.config.evaluation import BaselineName, LanguageModelName, Sampler, Untrained
from trsr.config.summary import TableWriter
from trsr.data.candidates import training_counts
from trsr.errors import ConfigError
from trsr.evaluation.beyond_accuracy import LIST_LENGTHS, coverage, novelty, serendipity
from trsr.evaluation.catalogue import CEILING
from trsr.evaluation.metrics import Protocol as MetricProtocol
from trsr.evaluation.metrics import (
    Recall,
    metric_names,
    metrics_at,
    metrics_frame,
    plain_name,
    protocol_label,
)
from trsr.evaluation.scoreboard import RULES, choose, slice_results, slices, summarise
from trsr.evaluation.statistics import (
    Estimate,
    PairedTest,
    average_seeds,
    paired_tests,
    seed_spread,
    with_reference,
)
from trsr.experiments.protocol import EvaluationProtocol
from trsr.experiments.scores import (
    SystemScores,
    catalogue_frames,
    expected_frames,
    recommended_frames,
    sampled_frames,
    two_stage_frames,
)
from trsr.records import FUSED, ITEM, PROFILES, SPLIT, Split
from trsr.registry import BASELINES, is_dotted, parse, spell
from trsr.report.results import Choice, Kind, MetricTable, Option, Slice, SystemRow, TwoStage

_NO_INTERVALS: Final = 1


@dataclass(frozen=True, slots=True)
class ValidationSelector:
    """Chooses among systems by one measure on the validation users."""

    config: Config
    protocol: EvaluationProtocol

    @property
    def measure(self) -> str:
        """The primary measure: NDCG at the greatest cut-off, among the run's own candidates."""
        return f"NDCG@{max(self.config.evaluation.ks)}"

    def retriever(self, systems: Sequence[SystemScores], depth: int) -> Choice | None:
        """Choose who retrieves, by the recall of the retrieved items; None when nobody can."""
        named = self.config.comparison.retriever
        able = [system for system in systems if system.runs[0].catalogue and named in (None, system.name)]
        return self._choose(
            f"retriever of {depth} items",
            f"Recall@{depth}",
            able,
            lambda system: catalogue_frames(system, self.protocol, Split.VALID, [Recall(k=depth)]),
        )

    def language_model(self, systems: Sequence[SystemScores]) -> Choice | None:
        """Choose the form of the language model; None without one."""
        forms = [system for system in systems if system.kind is Kind.LANGUAGE_MODEL]
        return self._by_measure("form of the language model", forms)

    def baseline(self, systems: Sequence[SystemScores]) -> Choice | None:
        """Choose the best system without a language model; None without one.

        Where the protocol ranks the whole catalogue, the choice is made there.
        """
        baselines = [system for system in systems if system.kind is Kind.BASELINE]
        ranking = [system for system in baselines if system.runs[0].catalogue]
        if not (self.config.split.whole_catalogue and ranking):
            return self._by_measure("best baseline", baselines)
        metrics = metrics_at([max(self.config.evaluation.ks)])
        return self._choose(
            "best baseline",
            self.measure,
            ranking,
            lambda system: catalogue_frames(system, self.protocol, Split.VALID, metrics),
        )

    def single(self, systems: Sequence[SystemScores]) -> Choice | None:
        """Choose the best system that is not fused; None without one."""
        return self._by_measure(
            "best single system", [system for system in systems if system.kind is not Kind.FUSED]
        )

    def _by_measure(self, what: str, systems: Sequence[SystemScores]) -> Choice | None:
        sampler = self.protocol.samplers[0]
        systems = [system for system in systems if sampler in system.runs[0].scores.get(Split.VALID, {})]
        metrics = metrics_at([max(self.config.evaluation.ks)])
        choice = self._choose(
            what,
            self.measure,
            systems,
            lambda system: sampled_frames(system, self.protocol, Split.VALID, sampler, metrics),
        )
        if choice is None:
            return None
        told = sampler if sampler == "impressions" else f"{sampler} negatives"
        measure = protocol_label(self.measure, self.config.split.label, told)
        return Choice(what, measure, choice.options, choice.chosen)

    def _choose(
        self,
        what: str,
        measure: str,
        systems: Sequence[SystemScores],
        frames: Callable[[SystemScores], list[pl.DataFrame]],
    ) -> Choice | None:
        if not systems:
            return None
        results = {}
        for system in systems:
            averaged = plain_names(average_seeds(frames(system)))
            results[system.name] = {Split.VALID.value: summarise(averaged, _NO_INTERVALS, self.config.seed)}
        label = protocol_label(self.config.split.label, CATALOGUE)
        options = tuple(
            Option(name, by_split[Split.VALID.value].metrics[measure].mean)
            for name, by_split in results.items()
        )
        return Choice(what, f"{measure} ({label})", options, choose(results, measure))


@dataclass(frozen=True, slots=True)
class SelectedSystems:
    """The systems of a comparison; `imported` are outside systems, None for all that were imported."""

    baselines: tuple[BaselineName, ...]
    language_models: tuple[LanguageModelName, ...]
    fused: bool
    imported: tuple[str, ...] | None = None
    untrained: tuple[Untrained, ...] = ()


def select_systems(
    config: Config, only: Sequence[str] | None = None, imported: Sequence[str] = ()
) -> SelectedSystems:
    """Say who takes part.

    Companions of the fused ranker take part with it, and `comparison.retriever` with a language model, also
    where `comparison.baselines` leaves them out.
    `only` names the systems wanted, also such as the settings leave out; None for all of the settings.
    `imported` are the outside systems at hand. Raises `ConfigError` when a name is unknown, or the fused
    ranker has no language model to join.

    Examples
    --------
    >>> select_systems(Config(), ["tfidf", "sasrec"])
    SelectedSystems(baselines=('tfidf', 'sasrec'), language_models=(), fused=False, imported=(), untrained=())
    """
    comparison = config.comparison
    if only is None:
        baselines, forms, taken = comparison.baselines, comparison.language_models, None
        fused = comparison.fused and bool(forms) and bool(config.fusion.companions)
        untrained = comparison.untrained
    else:
        untrained = tuple(each for each in comparison.untrained if each.label in only)
        labels = (each.label for each in comparison.untrained)
        others = (*get_args(LanguageModelName), FUSED, *labels, *imported)
        asked = [name for name in only if name not in others]
        baselines = tuple(
            dict.fromkeys(found for name in asked for found in _baselines(name, config, others))
        )
        if not only:
            message = f"--only must name systems among {', '.join((*BASELINES, *others))}, got nothing"
            raise ConfigError(message)
        forms = tuple(name for name in get_args(LanguageModelName) if name in only)
        fused = FUSED in only
        taken = tuple(name for name in imported if name in only)
    forms = _forms(config, forms)
    if fused and not (forms and config.fusion.companions):
        message = (
            "the fused ranker joins a language model with fusion.companions: name one of "
            f"{', '.join(get_args(LanguageModelName))} beside it, and leave fusion.companions filled"
        )
        raise ConfigError(message)
    companions = config.fusion.companions if fused else ()
    retrieving = (comparison.retriever,) if comparison.retriever and forms else ()
    taking_part = tuple(dict.fromkeys((*baselines, *retrieving, *companions)))
    return SelectedSystems(taking_part, forms, fused, taken, untrained)


def _forms(config: Config, names: Sequence[LanguageModelName]) -> tuple[LanguageModelName, ...]:
    """Name the forms of the language model: with texts of a table, all with a summary are one."""
    if isinstance(config.summary.writer, TableWriter):
        whole = ("tallrec", "llmseqprompt")
        return tuple(dict.fromkeys(name if name in whole else "profiles" for name in names))
    if PROFILES in names:
        message = f"{PROFILES} reads the texts of a table: name it by summary.writer, of kind table"
        raise ConfigError(message)
    if "mllm_msr" in names and config.images is None:
        message = "mllm_msr reads captions of the items' images: the section `images` says where these are"
        raise ConfigError(message)
    return tuple(names)


def _baselines(name: str, config: Config, others: Sequence[str]) -> list[BaselineName]:
    """Give what a name of `--only` stands for: systems of the settings, with theirs, else the name's own."""
    listed = (*config.comparison.baselines, *config.fusion.companions, *config.evaluation.baselines)
    if chosen := [each for each in listed if name in (each, parse(each)[0])]:
        return chosen
    if name.partition("(")[0] in BASELINES or is_dotted(name):
        return [spell("baseline", name, BASELINES)]
    known = ", ".join((*BASELINES, *others))
    message = f"--only must name systems among {known}, got {name!r}; your own is named package.module:Class"
    raise ConfigError(message)


_DIGITS = 6


def rounded(value: Any) -> Any:
    """Round all numbers: a training that went on after a kill ends like another one up to rounding.

    Examples
    --------
    >>> rounded({"a": [0.12345678, float("nan")], "b": 3})
    {'a': [0.123457, None], 'b': 3}
    """
    if isinstance(value, float):
        return round(value, _DIGITS) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: rounded(inside) for key, inside in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(inside) for inside in value]
    return value


CATALOGUE: Final = "catalogue"

Frames = Mapping[str, Sequence[pl.DataFrame]]
"""System to its metrics user by user, one frame a seed."""


class Tables:
    """Makes the tables of a comparison, on the test users.

    Slices and tests are by `measure`, the primary one. All others are tested against `references`: the fused
    system, and the best single one by validation. `asked` are pairs that are tested besides.
    """

    def __init__(
        self,
        config: Config,
        protocol: EvaluationProtocol,
        measure: str,
        references: Sequence[str],
        asked: Sequence[tuple[str, str]] = (),
    ) -> None:
        self._config = config
        self._protocol = protocol
        self._measure = measure
        self._references, self._asked = tuple(references), asked
        self._metrics = metrics_at(config.evaluation.ks, config.evaluation.metrics)
        # Tests in the table's first and last measure: what is quoted, and what choices go by.
        self._tested = tuple(dict.fromkeys((f"Recall@{config.evaluation.ks[0]}", measure)))

    def sampled(
        self,
        systems: Sequence[SystemScores],
        sampler: Sampler,
        pairs: Sequence[tuple[str, str]] = (),
        split: Split = Split.TEST,
    ) -> MetricTable:
        """Make the table of all systems on one sampler's candidates; further `pairs` are tested in it.

        Of the validation users, by whom choices are made, nothing is tested.
        """
        frames = {
            system.name: list(
                map(plain_names, sampled_frames(system, self._protocol, split, sampler, self._metrics))
            )
            for system in systems
            if sampler in system.runs[0].scores.get(split, {})
        }
        tested = split is Split.TEST
        exact = self._exact(systems) if tested and sampler == "uniform" else {}
        candidates = self._protocol.splits[split].candidates[sampler].shape[1]
        note = f"{candidates - 1} {sampler} negatives a target, frozen with seed {self._config.seed}."
        if sampler == "impressions":
            note = f"What was shown together, {candidates} at most."
        return MetricTable(
            sampler=self._named(sampler),
            candidates=candidates,
            rows=self._rows(frames, exact, tested=tested),
            tests=self._pairs(frames, pairs) if tested else (),
            pairs=self._asked_for(frames) if tested else (),
            slices=self._slices(frames) if tested else (),
            note=f"{note} {self._rows_told(split)}".strip(),
            split=split,
        )

    def catalogue(self, systems: Sequence[SystemScores]) -> MetricTable | None:
        """Make the table of ranks in the whole catalogue; None when nobody ranks it."""
        frames = {
            system.name: found
            for system in systems
            if (found := catalogue_frames(system, self._protocol, Split.TEST, self._metrics))
        }
        if not frames:
            return None
        plain = {name: [plain_names(frame) for frame in runs] for name, runs in frames.items()}
        items = self._protocol.prepared.items.height
        history = "the history among them" if self._config.split.keeps_history else "but the user's history"
        note = f"All {items:,} items {history}. {self._read_in_full(systems)}"
        beyond = {system.name: self._beyond(system) for system in systems if system.name in frames}
        return MetricTable(
            sampler=self._named(CATALOGUE),
            candidates=items,
            rows=tuple(replace(row, beyond=beyond[row.system]) for row in self._rows(plain, {})),
            tests=self._pairs(plain, ()),
            pairs=self._asked_for(plain),
            note=f"{note} {self._rows_told(Split.TEST)}".strip(),
        )

    def _beyond(self, system: SystemScores) -> dict[str, Estimate]:
        """Measure lists beyond their accuracy; what shorter lists can't tell is absent."""
        data, counts = self._protocol.splits[Split.TEST], self._protocol.data.counts
        runs = [run.catalogue[Split.TEST] for run in system.runs if Split.TEST in run.catalogue]
        split = [Split.TEST.value] * len(data.users)
        found: dict[str, Estimate] = {}
        for k in LIST_LENGTHS:
            lists = [run.retrieved[:, :k] for run in runs]
            told = [{f"Serendipity@{k}": serendipity(run.ranks, data.targets, counts, k)} for run in runs]
            if all(rows.shape[1] == k for rows in lists):
                covered = [coverage(rows, len(counts)) for rows in lists]
                found[f"Coverage@{k}"] = Estimate(sum(covered) / len(covered), math.nan, math.nan)
                for of_run, rows in zip(told, lists, strict=True):
                    of_run[f"Novelty@{k}"] = novelty(rows, counts)
            found |= self._summary(
                [
                    metrics_frame(data.users, split, run.ranks.tied, of_run, data.persons)
                    for run, of_run in zip(runs, told, strict=True)
                ]
            )
        return found

    def _read_in_full(self, systems: Sequence[SystemScores]) -> str:
        """Say how a system with the language model can be in the table, and what its own lists are worth."""
        for system in systems:
            if frames := recommended_frames(system, self._protocol, Split.TEST, self._metrics):
                told = f"Recall@{max(self._config.evaluation.ks)} ({self._named(MetricProtocol.RECOMMENDED)})"
                value = self._summary(frames)[told]
                return (
                    f"The {system.name} ranker orders what is retrieved; all other items are level behind "
                    f"that. Of its lists as they are recommended, from which no history is taken, {told} is "
                    f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]."
                )
        return "The language model is too slow for it."

    def _named(self, among: str) -> str:
        """Say on which rows, where they aren't users, and among what."""
        return protocol_label(self._config.split.label, among)

    def _rows_told(self, split: Split) -> str:
        """Say how many rows the users have; nothing where each has one."""
        data = self._protocol.splits[split]
        if not data.persons:
            return ""
        persons = len(set(data.persons))
        return f"{len(data.users):,} rows of {persons:,} users: means are over rows, intervals over users."

    def two_stage(self, systems: Sequence[SystemScores], retriever: str, depth: int) -> TwoStage | None:
        """Make the table of the two-stage ranking; None when nothing was ordered."""
        frames = {
            system.name: two_stage_frames(system, self._protocol, self._metrics)
            for system in systems
            if system.reranked
        }
        if retriever not in frames:
            return None
        ceiling = self._summary(frames[retriever])[CEILING]
        plain = {name: [plain_names(frame.drop(CEILING)) for frame in runs] for name, runs in frames.items()}
        return TwoStage(retriever, depth, ceiling, self._rows(plain, {}), self._named("two-stage"))

    def _rows(
        self, frames: Frames, exact: Mapping[str, Mapping[str, float]], *, tested: bool = True
    ) -> tuple[SystemRow, ...]:
        against = self._against_best(frames) if tested else {}
        rows = []
        for name, runs in frames.items():
            result = summarise(average_seeds(runs), self._config.evaluation.bootstrap, self._config.seed)
            spread = seed_spread(runs)
            rows.append(
                SystemRow(
                    system=name,
                    users=result.users,
                    metrics=result.metrics,
                    tie_rate=result.tie_rate,
                    by_seed={metric: told.means for metric, told in spread.items()},
                    p_against_best=against.get(name, {}),
                    exact=exact.get(name, {}),
                )
            )
        return tuple(rows)

    def _exact(self, systems: Sequence[SystemScores]) -> dict[str, dict[str, float]]:
        """Compute the exact expectation of the uniform figures for systems with ranks in the catalogue."""
        negatives = self._config.candidates.negatives
        found = {}
        for system in systems:
            # A fused ranker ranks the catalogue by other weights than drawn candidates.
            if system.kind is Kind.FUSED:
                continue
            runs = expected_frames(system, self._protocol, Split.TEST, negatives, self._metrics)
            if runs:
                means = average_seeds([plain_names(run) for run in runs])
                found[system.name] = {
                    metric: float(means[metric].to_numpy().mean()) for metric in metric_names(means)
                }
        return found

    def _summary(self, runs: Sequence[pl.DataFrame]) -> Mapping[str, Estimate]:
        return summarise(average_seeds(runs), self._config.evaluation.bootstrap, self._config.seed).metrics

    def _against_best(self, frames: Frames) -> dict[str, dict[str, float]]:
        """Test every row against the best of its column."""
        averaged = {name: average_seeds(runs) for name, runs in frames.items()}
        found: dict[str, dict[str, float]] = {}
        for metric in self._tested:
            means = {name: float(frame[metric].to_numpy().mean()) for name, frame in averaged.items()}
            best = max(means, key=means.__getitem__)
            for test in self._tests(averaged, with_reference(list(averaged), best), metric):
                found.setdefault(test.second, {})[metric] = test.p_holm
        return found

    def _pairs(self, frames: Frames, pairs: Sequence[tuple[str, str]]) -> tuple[PairedTest, ...]:
        """Test every system against each reference, and further pairs; each group is a family of its own."""
        averaged = {name: average_seeds(runs) for name, runs in frames.items()}
        ranked = sorted(averaged, key=lambda name: -float(averaged[name][self._measure].to_numpy().mean()))
        groups = [with_reference(list(averaged), name) for name in self._references if name in averaged]
        wanted = [*pairs, (ranked[0], ranked[1])] if len(ranked) > 1 else [*pairs]
        groups += [[pair] for pair in wanted if len(set(pair) & set(averaged)) == 2]
        told: dict[frozenset[str], PairedTest] = {}
        for group in groups:
            for test in self._tests(averaged, group, self._measure):
                told.setdefault(frozenset((test.first, test.second)), test)
        return tuple(told.values())

    def _asked_for(self, frames: Frames) -> tuple[PairedTest, ...]:
        """Test the pairs that were asked for and are here; those of one metric are a family."""
        pairs = [pair for pair in self._asked if set(pair) <= set(frames)]
        averaged = {name: average_seeds(frames[name]) for pair in pairs for name in pair}
        return tuple(test for metric in self._tested for test in self._tests(averaged, pairs, metric))

    def _tests(
        self, averaged: Mapping[str, pl.DataFrame], pairs: Sequence[tuple[str, str]], metric: str
    ) -> tuple[PairedTest, ...]:
        if not pairs:
            return ()
        evaluation, seed = self._config.evaluation, self._config.seed
        return paired_tests(averaged, pairs, [metric], resamples=evaluation.bootstrap, seed=seed)

    def _slices(self, frames: Frames) -> tuple[Slice, ...]:
        prepared = self._protocol.prepared
        ids = prepared.items[ITEM].to_list()
        counts = training_counts(prepared.histories, ids, prepared.background)
        members = slices(prepared.histories.filter(pl.col(SPLIT) == Split.TEST.value), ids, counts)
        evaluation, seed = self._config.evaluation, self._config.seed
        measured = {
            name: slice_results(average_seeds(runs), members, evaluation.bootstrap, seed)
            for name, runs in frames.items()
        }
        found = []
        for group, rule in RULES.items():
            values = {
                name: result.metrics[self._measure]
                for name, by_slice in measured.items()
                if (result := by_slice[group].result) is not None
            }
            if values:
                found.append(Slice(group, rule, next(iter(measured.values()))[group].users, values))
        return tuple(found)


def plain_names(frame: pl.DataFrame) -> pl.DataFrame:
    """Name metrics without their protocol, which the table says."""
    return frame.rename({name: plain_name(name) for name in metric_names(frame)})
