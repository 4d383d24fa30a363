"""The story of a comparison: every system on the same users and candidates, one table at the end.

Split and candidates follow the run's seed and never change over training seeds. A system and seed
whose scores are complete for the same settings and data is skipped, so that a comparison that was
killed goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

import numpy as np

from trsr.artifacts import RunFolder
from trsr.config import Config
from trsr.config.evaluation import BaselineName, Untrained
from trsr.data.prepare import Prepared
from trsr.errors import ConfigError, TrsrError
from trsr.evaluation.beyond_accuracy import LIST_LENGTHS
from trsr.experiments.fused import FusedSystem, over_catalogue
from trsr.experiments.progress import Job, Progress, render_text
from trsr.experiments.progress import Work as Sort
from trsr.experiments.protocol import EvaluationProtocol, comparison_protocol
from trsr.experiments.report import Published, gather, publish
from trsr.experiments.scores import Floats, SeedScores, SystemScores
from trsr.experiments.systems import (
    DESCRIPTION,
    Baselines,
    LanguageModel,
    imported_names,
    outside_systems,
    retrieval_depth,
    second_stage_scores,
    training_seeds,
)
from trsr.experiments.tables import SelectedSystems, ValidationSelector, select_systems
from trsr.experiments.variants import answer_variant, form, standing
from trsr.fusion.companions import Companions
from trsr.fusion.fusion import too_few
from trsr.records import FUSED, Split
from trsr.registry import BASELINES, identity, path_name
from trsr.report.results import Choice, Kind
from trsr.served import ORDERS
from trsr.stages.caption import caption
from trsr.stages.prepare import prepare
from trsr.stages.work import Artifact, Work


def compare(
    config: Config,
    *,
    only: Sequence[str] | None = None,
    command: str = "trsr compare",
    users: bool = True,
    say: Callable[[str], None] = print,
) -> Published:
    """Train and score all systems, and write the comparison into ``comparison`` of the run folder.

    `only` names the systems wanted; None for all of the settings. `command`, the command line, stands in
    the report. Without `users` the page shows no single users with their histories, so that it can be passed
    on. What is said ends with the table. Raises `ConfigError` when `only` names an unknown system. When a
    system fails, what was finished is kept, and the next comparison goes on from there.
    """
    started = time.monotonic()
    run = Work(config, RunFolder(config.folder), say)
    imported = imported_names(run.folder)
    wanted = select_systems(config, only, imported)
    asked = config.comparison.pairs
    pairs = _named(asked, (wanted, select_systems(config, None, imported)), imported) if asked else []
    prepared = caption(run, prepare(run))
    protocol = comparison_protocol(run, prepared)
    if wanted.fused and (few := too_few(len(protocol.splits[Split.VALID].users))):
        say(few)
        wanted = replace(wanted, fused=False)
    work = Work(config, RunFolder(run.folder.path / "comparison"), say)
    comparison = Comparison(work, prepared, protocol, wanted)
    systems, retriever = comparison.run()
    seconds = time.monotonic() - started
    content = gather(config, protocol, systems, command, seconds, retriever, comparison.depth or 0, pairs)
    say(render_text(content))
    tested = {(test.first, test.second) for table in content.all_tables for test in table.pairs}
    for first, second in (pair for pair in pairs if pair not in tested):
        say(f"{first} minus {second}: not tested, for no candidates were ranked by both here")
    return publish(content if users else replace(content, cases=None), work.folder.path)


class Comparison:
    """Asks every system, one training seed at a time.

    Raises `ConfigError` at once when a system lacks a setting that it needs.
    """

    def __init__(
        self,
        work: Work,
        prepared: Artifact[Prepared],
        protocol: EvaluationProtocol,
        wanted: SelectedSystems,
    ) -> None:
        self._work = work
        self._prepared = prepared
        self._protocol = protocol
        self._wanted = wanted
        self._seeds = work.config.comparison.seeds
        self._models: dict[tuple[str, int], LanguageModel] = {}
        # Nobody orders what is retrieved where there is no language model.
        wanted_items = work.config.comparison.retrieve if wanted.language_models else 0
        self.depth = retrieval_depth(protocol, wanted_items)
        self._listed = retrieval_depth(protocol, max(wanted_items, *LIST_LENGTHS))
        self._baselines = Baselines(
            work, protocol, kept=work.config.fusion.companions if wanted.fused else ()
        )
        # First of all: a system that can't be had is told before the long work.
        self._baselines.require(wanted.baselines)
        self._progress = Progress(self._jobs(), work.say)

    def run(self) -> tuple[list[SystemScores], Choice | None]:
        """Let everybody answer; return the systems, and how the retriever was chosen."""
        work, wanted = self._work, self._wanted
        names = imported_names(RunFolder(work.config.folder)) if wanted.imported is None else wanted.imported
        outside = outside_systems(work.config, self._protocol, names, work.say)
        work.say(
            f"comparison: {len(wanted.baselines)} baselines, {len(wanted.language_models)} forms of the "
            f"language model, {len(wanted.untrained)} as they stand, {len(outside)} imported, training seeds "
            f"{', '.join(map(str, self._seeds))}; what is complete is kept in {work.folder.path}"
        )
        selector = ValidationSelector(work.config, self._protocol)
        floor = [self._baseline(name) for name in wanted.baselines]
        outside = [*(self._untrained(each) for each in wanted.untrained), *outside]
        forms = self._language_models()
        retriever = selector.retriever(floor, self.depth) if self.depth else None
        chosen = selector.language_model(forms)
        if chosen is None:
            return [*floor, *forms, *outside], None
        work.say(f"form of the language model, by validation: {chosen.chosen}")
        handing, systems = None, [*floor, *forms]
        if retriever is not None:
            work.say(f"retriever, by validation: {retriever.chosen}")
            handing = next(system for system in floor if system.name == retriever.chosen)
            forms = [self._reranked(system, handing) for system in forms]
            own = handing.as_retrieved(self.depth or 0)
            systems = [*(own if system is handing else system for system in floor), *forms]
        if wanted.fused:
            try:
                best = next(system for system in forms if system.name == chosen.chosen)
                systems.append(self._fused(best, floor, handing))
            except (TrsrError, ValueError, ArithmeticError) as error:
                # All that was trained must reach the page.
                work.say(f"no fused ranker: {error}")
        return [*systems, *outside], retriever

    def _jobs(self) -> list[Job]:
        floor = [
            Job(Sort.BASELINE, name, seed) for name in self._wanted.baselines for seed in self._seeds_of(name)
        ]
        two = floor and self.depth
        sorts = (Sort.LANGUAGE_MODEL, Sort.SECOND_STAGE) if two else (Sort.LANGUAGE_MODEL,)
        forms = [
            Job(sort, name, seed)
            for sort in sorts
            for seed in self._seeds
            for name in self._wanted.language_models
        ]
        standing = [
            Job(Sort.UNTRAINED, each.label, self._work.config.seed) for each in self._wanted.untrained
        ]
        return floor + standing + forms

    def _seeds_of(self, name: BaselineName) -> tuple[int, ...]:
        return training_seeds(name, self._seeds, self._work.config.seed)

    def _baseline(self, name: BaselineName) -> SystemScores:
        runs = []
        for seed in self._seeds_of(name):
            with self._progress.job(Job(Sort.BASELINE, name, seed)) as job:
                scored = self._baselines.scores(
                    f"{path_name(name)}/seed-{seed}", name, seed, self._listed, begin=job.begin
                )
                job.seconds = scored.value.info.seconds
            runs.append(scored.value)
        return SystemScores(name, Kind.BASELINE, self._seeds_of(name), tuple(runs))

    def _untrained(self, untrained: Untrained) -> SystemScores:
        """Let a model rank as it stands, on the frozen candidates alone."""
        seed = self._work.config.seed
        model, scored = answer_variant(
            self._work, self._prepared, self._protocol, standing(untrained), seed, self._progress
        )
        told = " ".join(filter(None, (untrained.description, _orders_told(scored.info.details))))
        info = replace(scored.info, details={**scored.info.details, DESCRIPTION: told})
        runs = (replace(scored, info=info),)
        return SystemScores(untrained.label, Kind.BASELINE, (seed,), runs, summaries=model.told)

    def _language_models(self) -> list[SystemScores]:
        runs: dict[str, list[SeedScores]] = {name: [] for name in self._wanted.language_models}
        # Seed by seed: forms of one seed share their pre-training, and whoever stops early has whole seeds.
        for seed in self._seeds:
            for name in self._wanted.language_models:
                variant = form(self._work.config, name)
                model, scored = answer_variant(
                    self._work, self._prepared, self._protocol, variant, seed, self._progress
                )
                self._models[name, seed] = model
                runs[name].append(scored)
        return [
            SystemScores(
                name,
                Kind.LANGUAGE_MODEL,
                self._seeds,
                tuple(scored),
                summaries=self._models[name, self._seeds[0]].told,
            )
            for name, scored in runs.items()
        ]

    def _reranked(self, system: SystemScores, retriever: SystemScores) -> SystemScores:
        """Let a form of the language model order what the retriever hands on, for the test users."""
        users = self._protocol.splits[Split.TEST].users
        retrieved = [retriever.handed_on(seed, self.depth or 0) for seed in system.seeds]
        scores = []
        for seed, items in zip(system.seeds, retrieved, strict=True):
            model = self._models[system.name, seed]
            with self._progress.job(Job(Sort.SECOND_STAGE, system.name, seed)) as job:

                def score(
                    model: LanguageModel = model,
                    items: np.ndarray = items,
                    begin: Callable[[], None] = job.begin,
                ) -> Floats:
                    begin()
                    title = f"{system.name}: {items.shape[1]} retrieved items a user"
                    return np.stack(model.score(self._protocol, Split.TEST, list(items), title))

                found = second_stage_scores(
                    self._work, f"{system.name}/seed-{seed}", model.digest, users, items, score
                )
                job.seconds = float(found.entry.details["scoring_seconds"])
            scores.append(found.value)
        return system.with_second_stage(retrieved, scores)

    def _fused(
        self, form: SystemScores, floor: Sequence[SystemScores], retriever: SystemScores | None
    ) -> SystemScores:
        names = self._work.config.fusion.companions
        fused = FusedSystem(
            self._protocol, form, {name: next(each for each in floor if each.name == name) for name in names}
        )
        runs = tuple(self._everywhere(fused, form, seed) for seed in self._seeds)
        if retriever is None:
            return SystemScores(FUSED, Kind.FUSED, self._seeds, runs)
        retrieved = [retriever.handed_on(seed, self.depth or 0) for seed in self._seeds]
        reranked = []
        for seed, items in zip(self._seeds, retrieved, strict=True):
            told = {name: self._companion(name, seed, items) for name in names}
            reranked.append(fused.rerank(seed, items, told))
        return SystemScores(FUSED, Kind.FUSED, self._seeds, runs).with_second_stage(retrieved, reranked)

    def _everywhere(self, fused: FusedSystem, form: SystemScores, seed: int) -> SeedScores:
        """Let the fused ranker of one seed answer, among the frozen candidates and in the catalogue."""
        scores, told = fused.scores(seed), self._work.config.fusion
        if self.depth is None or not told.items:
            return scores
        fitted = {name: self._baselines.fitted(name, self._own(name, seed)) for name in told.companions}
        companions, model = Companions(fitted, self._protocol.data.counts), self._models[form.name, seed]
        name = f"catalogue/seed-{seed}"
        return over_catalogue(self._work, self._protocol, model, companions, scores, name=name)

    def _own(self, name: BaselineName, seed: int) -> int:
        """Give the seed that a companion has beside the language model's."""
        return seed if seed in self._seeds_of(name) else self._seeds_of(name)[0]

    def _companion(self, name: BaselineName, seed: int, items: np.ndarray) -> Floats:
        own = self._own(name, seed)
        users = self._protocol.splits[Split.TEST].users
        return second_stage_scores(
            self._work,
            f"{path_name(name)}/seed-{seed}",
            [self._protocol.digest, identity("baseline", name, BASELINES), own],
            users,
            items,
            lambda: self._baselines.score(name, own, Split.TEST, items),
        ).value


def _named(
    asked: Sequence[tuple[str, str]], systems: Iterable[SelectedSystems], imported: Sequence[str]
) -> list[tuple[str, str]]:
    """Find the systems of pairs among those that take part, now or without `--only`.

    Raises ConfigError with the near name.
    """
    known: list[str] = []
    for each in systems:
        known += [*each.baselines, *each.language_models, *([FUSED] if each.fused else [])]
        known += [one.label for one in each.untrained]
    known = list(dict.fromkeys([*known, *imported]))

    def find(name: str) -> str:
        found = [each for each in known if name == each] or [
            each for each in known if name == each.partition("(")[0]
        ]
        if len(found) == 1:
            return found[0]
        near = found or get_close_matches(name, known, n=1)
        meant = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
        message = f"comparison.pairs: no system {name!r} takes part; {meant}"
        raise ConfigError(message)

    pairs = [(find(first), find(second)) for first, second in asked]
    if twice := [first for first, second in pairs if first == second]:
        message = f"comparison.pairs: a pair is of two systems, got {twice[0]} twice"
        raise ConfigError(message)
    once: dict[frozenset[str], tuple[str, str]] = {}
    for pair in pairs:
        once.setdefault(frozenset(pair), pair)
    return list(once.values())


def _orders_told(details: Mapping[str, Any]) -> str:
    """Say what the answers of a model that writes orders were worth; nothing where all were whole.

    Examples
    --------
    >>> _orders_told({ORDERS: {"asked again": 1, "incomplete": 3, "whole": 36}})
    'Of 39 orders 3 left candidates out, which stand level behind.'
    """
    counts = details.get(ORDERS, {})
    short, none, whole = (counts.get(name, 0) for name in ("incomplete", "none", "whole"))
    parts = [f"{short:,} left candidates out, which stand level behind"] if short else []
    parts += [f"{none:,} were none, so that all candidates are level"] if none else []
    return f"Of {short + none + whole:,} orders {'; '.join(parts)}." if parts else ""
