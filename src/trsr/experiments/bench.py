"""Where systems are trained and asked: whatever is complete is read from the shelf instead."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from hashlib import sha256

import numpy as np
import polars as pl

from trsr.artifacts import hash_value
from trsr.baselines.score import open_baseline
from trsr.config import Config
from trsr.config.experiments import BaselineName, LanguageModelName
from trsr.experiments.baseline_systems import BaselineSystems
from trsr.experiments.contest import Contest, Places
from trsr.experiments.entry import Entry
from trsr.experiments.progress import Job, Progress, Work
from trsr.experiments.scored import Floats, Scored, from_frame, lists, table, to_frame
from trsr.experiments.shelf import Card, Shelf
from trsr.experiments.variants import (
    answer_variant,
    fingerprint,
    form,
    key,
    score_lists,
    train_variant,
)
from trsr.records import SCORE, USER, Split
from trsr.report.comparison.standings import Kind


class Bench:
    """Asks every system of a comparison, one seed at a time.

    Parameters
    ----------
    config
        The run's settings.
    contest
        What is asked.
    shelf
        Where answers are kept.
    baselines
        Names of the systems without a language model.
    forms
        Forms of the language model.
    say
        Called with one line a step.

    Raises
    ------
    ConfigError
        When a system lacks a setting that it needs.
    """

    def __init__(
        self,
        config: Config,
        contest: Contest,
        shelf: Shelf,
        baselines: Sequence[BaselineName],
        forms: Sequence[LanguageModelName],
        say: Callable[[str], None],
    ) -> None:
        self._config = config
        self._contest = contest
        self._shelf = shelf
        self._say = say
        self._names = tuple(baselines)
        self._forms = tuple(forms)
        self._baselines = BaselineSystems(config, contest, shelf.path)
        for name in baselines:
            # First of all: a system that can't be had is told before the long work.
            open_baseline(name, config.seed, config.comparison.embedding_model)
        self._progress = Progress(self._jobs(), say)

    def baselines(self) -> list[Entry]:
        """Train and ask all systems without a language model."""
        entries = []
        for name in self._names:
            seeds = self._baselines.seeds(name)
            runs = tuple(self._baseline(name, seed) for seed in seeds)
            entries.append(Entry(name, Kind.BASELINE, seeds, runs))
        return entries

    def language_models(self) -> list[Entry]:
        """Train and ask all forms of the language model."""
        seeds = self._config.comparison.seeds
        runs: dict[LanguageModelName, list[Scored]] = {name: [] for name in self._forms}
        # Seed by seed: forms of one seed share their pre-training, and whoever stops early has whole seeds.
        for seed in seeds:
            for name in self._forms:
                runs[name].append(self._language_model(name, seed))
        return [Entry(name, Kind.LANGUAGE_MODEL, seeds, tuple(scored)) for name, scored in runs.items()]

    def rerank_with_forms(self, entries: Sequence[Entry], retriever: Entry) -> list[Entry]:
        """Let every form of the language model order what the retriever hands on, for the test users."""
        return [
            entry.with_second_stage(
                [self.retrieved(retriever, seed) for seed in entry.seeds],
                [self._ordered_by_form(name, seed, self.retrieved(retriever, seed)) for seed in entry.seeds],
            )
            for name, entry in zip(self._forms, entries, strict=True)
        ]

    def score_with_baseline(self, name: BaselineName, seed: int, candidates: Places) -> Floats:
        """Score other candidates of the test users, ``(n_users, n_candidates)``."""
        seeds = self._baselines.seeds(name)
        own_seed = seed if seed in seeds else seeds[0]
        made_for = self._second_fingerprint(self._baselines.fingerprint(name, own_seed), candidates)
        shelf_name = f"second_stage/{name}/seed-{seed}"
        found = self._shelf.find(shelf_name, made_for)
        if found is not None:
            return table(found[0][SCORE]).astype(np.float64)
        scores = self._baselines.score(name, own_seed, Split.TEST, candidates)
        self._keep(shelf_name, made_for, scores)
        return scores

    @staticmethod
    def retrieved(retriever: Entry, seed: int) -> Places:
        """Return what the retriever hands on to systems of this seed, ``(n_test_users, depth)``."""
        return retriever.at(seed).catalogue[Split.TEST].retrieved

    def _jobs(self) -> list[Job]:
        seeds = self._config.comparison.seeds
        floor = [
            Job(Work.BASELINE, name, seed) for name in self._names for seed in self._baselines.seeds(name)
        ]
        works = (Work.LANGUAGE_MODEL, Work.SECOND_STAGE) if floor else (Work.LANGUAGE_MODEL,)
        forms = [Job(work, name, seed) for work in works for seed in seeds for name in self._forms]
        return floor + forms

    def _baseline(self, name: BaselineName, seed: int) -> Scored:
        job = Job(Work.BASELINE, name, seed)
        made_for = self._baselines.fingerprint(name, seed)
        found = self._shelf.find(key(name, seed), made_for)
        if found is not None:
            self._progress.skip(job, found[1].training_seconds + found[1].scoring_seconds)
            return from_frame(*found, self._contest)
        with self._progress.job(job):
            scored = self._baselines.answer(name, seed)
            self._shelf.put(key(name, seed), made_for, to_frame(scored, self._contest), scored.card)
        return scored

    def _language_model(self, name: LanguageModelName, seed: int) -> Scored:
        variant = form(self._config, name)
        return answer_variant(
            self._config, self._contest, self._shelf, variant, seed, self._progress, self._say
        )

    def _ordered_by_form(self, name: LanguageModelName, seed: int, retrieved: Places) -> Floats:
        job = Job(Work.SECOND_STAGE, name, seed)
        variant = form(self._config, name)
        made_for = self._second_fingerprint(
            fingerprint(self._config, self._contest, variant, seed), retrieved
        )
        shelf_name = f"second_stage/{name}/seed-{seed}"
        found = self._shelf.find(shelf_name, made_for)
        if found is not None:
            self._progress.skip(job, found[1].scoring_seconds)
            return table(found[0][SCORE]).astype(np.float64)
        with self._progress.job(job):
            started = time.monotonic()
            settings = train_variant(
                self._config, self._contest, self._shelf, variant, seed, lambda line: None
            )
            title = f"{name}, seed {seed}: {retrieved.shape[1]} retrieved items a user"
            scores = np.stack(score_lists(settings, self._contest, Split.TEST, list(retrieved), title))
            self._keep(shelf_name, made_for, scores, time.monotonic() - started)
        return scores

    @staticmethod
    def _second_fingerprint(system: str, candidates: Places) -> str:
        return hash_value([system, sha256(np.ascontiguousarray(candidates).tobytes()).hexdigest()])

    def _keep(self, name: str, made_for: str, scores: Floats, seconds: float = 0.0) -> None:
        users = self._contest.panels[Split.TEST].users
        frame = pl.DataFrame({USER: users, SCORE: lists(scores)})
        self._shelf.put(name, made_for, frame, Card(scoring_seconds=seconds))
