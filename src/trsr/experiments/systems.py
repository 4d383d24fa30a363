"""The systems of a comparison at work: trained, asked about candidates and the catalogue, kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from trsr import __version__
from trsr.artifacts import hash_value
from trsr.baselines.base import Baseline
from trsr.baselines.neural import Sequential, load_sequential
from trsr.baselines.neural.network import DEFAULTS
from trsr.baselines.registry import SEQUENTIAL, open_baseline, score_catalogue
from trsr.config import Config
from trsr.config.evaluation import BaselineName, LanguageModelName, Sampler
from trsr.errors import ArtifactError
from trsr.evaluation.catalogue import CatalogueRanks, place_in_catalogue, top_items
from trsr.experiments.progress import Job, Progress, Work
from trsr.experiments.protocol import MEASURED, Contest, Panel, Places
from trsr.experiments.scores import (
    Card,
    Entry,
    Floats,
    InCatalogue,
    Scored,
    Shelf,
    from_frame,
    lists,
    table,
    to_frame,
)
from trsr.experiments.variants import answer_variant, fingerprint, form, key, score_lists, train_variant
from trsr.records import SCORE, USER, Split
from trsr.report.results import Kind


def rank_panel(baseline: Baseline, panel: Panel, n_items: int, depth: int, seed: int) -> InCatalogue:
    """Rank the catalogue for every user of a split with a trained baseline, block by block.

    `depth` items are retrieved a user; `seed` decides the order of retrieved items with equal scores.
    """
    ranks, retrieved = [], []
    for part, scores in score_catalogue(baseline, panel.users, panel.histories, n_items):
        histories = panel.histories[part]
        ranks.append(place_in_catalogue(scores, panel.targets[part], histories))
        # The same order of equal scores in every block: blocks are a matter of memory only.
        retrieved.append(top_items(scores, histories, depth, np.random.default_rng(seed)))
    return InCatalogue(
        CatalogueRanks(
            np.concatenate([block.above for block in ranks]),
            np.concatenate([block.tied for block in ranks]),
            np.concatenate([block.others for block in ranks]),
        ),
        np.concatenate(retrieved).astype(np.int32),
    )


def retrieval_depth(contest: Contest, wanted: int) -> int:
    """Return `wanted`, or less when a small catalogue leaves a user with fewer new items."""
    longest = max(len(np.unique(history)) for panel in contest.panels.values() for history in panel.histories)
    return min(wanted, contest.prepared.items.height - longest)


_USERS_A_CALL: Final = 4096
_COUNTS_INTERACTIONS: Final[frozenset[BaselineName]] = frozenset(("popularity", "itemknn"))


class BaselineSystems:
    """All baselines of one comparison.

    A fitted system stays in memory until the comparison is over, as the items that the two-stage
    ranking hands on are known only when all have been asked. Neural companions of the fused ranker are
    saved into `folder` as well, so that a comparison that was killed in between needn't train them again.
    """

    def __init__(self, config: Config, contest: Contest, folder: Path) -> None:
        self._folder = folder
        self._config = config
        self._contest = contest
        self._fitted: dict[tuple[BaselineName, int], tuple[Baseline, float]] = {}

    def seeds(self, name: BaselineName) -> tuple[int, ...]:
        """Return the training seeds; a system that nothing is drawn for has the run's alone."""
        return self._config.comparison.seeds if name in SEQUENTIAL else (self._config.seed,)

    def fingerprint(self, name: BaselineName, seed: int) -> str:
        """Hash of everything that the answers depend on."""
        comparison = self._config.comparison
        return hash_value(
            {
                "version": __version__,
                "contest": self._contest.fingerprint,
                "system": name,
                "seed": seed,
                "fields": self._config.items.fields,
                "embedding_model": comparison.embedding_model if name == "embeddings" else None,
                "settings": asdict(DEFAULTS[name]) if name in DEFAULTS else None,
                "depth": comparison.retrieve,
                "ties": self._config.seed,
            }
        )

    def answer(self, name: BaselineName, seed: int) -> Scored:
        """Train one system and score what the contest asks."""
        baseline, training_seconds = self._fit(name, seed)
        started = time.monotonic()
        contest, config = self._contest, self._config
        n_items = contest.prepared.items.height
        depth = retrieval_depth(contest, config.comparison.retrieve)
        scores: dict[Split, dict[Sampler, Floats]] = {
            split: {
                sampler: _score(baseline, contest, split, rows) for sampler, rows in panel.candidates.items()
            }
            for split, panel in contest.panels.items()
        }
        catalogue = {
            split: rank_panel(baseline, contest.panels[split], n_items, depth, config.seed)
            for split in MEASURED
        }
        card = self._card(name, baseline, training_seconds, time.monotonic() - started)
        return Scored(scores, catalogue, card)

    def score(self, name: BaselineName, seed: int, split: Split, candidates: Places) -> Floats:
        """Score other candidates with a fitted system, ``(n_users, n_candidates)``."""
        baseline, _ = self._fit(name, seed)
        return _score(baseline, self._contest, split, candidates)

    def _fit(self, name: BaselineName, seed: int) -> tuple[Baseline, float]:
        if (name, seed) not in self._fitted:
            started = time.monotonic()
            baseline = self._saved(name, seed)
            if baseline is None:
                baseline = open_baseline(name, seed, self._config.comparison.embedding_model)
                baseline.fit(self._contest.data)
            self._fitted[name, seed] = baseline, time.monotonic() - started
            if isinstance(baseline, Sequential) and name in self._config.fusion.companions:
                baseline.save(self._model_folder(name, seed))
        return self._fitted[name, seed]

    def _saved(self, name: BaselineName, seed: int) -> Baseline | None:
        """Load a neural system that was trained for the same settings and data."""
        try:
            return load_sequential(self._model_folder(name, seed)) if name in SEQUENTIAL else None
        except ArtifactError:
            return None

    def _model_folder(self, name: BaselineName, seed: int) -> Path:
        return self._folder / name / f"model-{seed}-{self.fingerprint(name, seed)[:12]}"

    def _card(self, name: BaselineName, baseline: Baseline, training: float, scoring: float) -> Card:
        if isinstance(baseline, Sequential):
            record = baseline.record
            training = record.seconds
            details = {
                "epochs": record.epochs,
                "best_epoch": record.best_epoch,
                "validation": record.validation if np.isfinite(record.validation) else None,
            }
            return Card(training, scoring, record.examples, record.negatives, details)
        counted = sum(map(len, self._contest.data.sequences)) if name in _COUNTS_INTERACTIONS else None
        return Card(training, scoring, counted)


def _score(baseline: Baseline, contest: Contest, split: Split, candidates: Places) -> Floats:
    panel = contest.panels[split]
    parts = [
        slice(start, start + _USERS_A_CALL) for start in range(0, max(1, len(panel.users)), _USERS_A_CALL)
    ]
    return np.concatenate(
        [baseline.score(panel.users[part], panel.histories[part], candidates[part]) for part in parts]
    )


class Bench:
    """Asks every system of a comparison, one seed at a time; answers are kept on the shelf.

    Raises `ConfigError` at once when a system lacks a setting that it needs.
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
