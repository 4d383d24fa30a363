"""Systems without a language model: trained and asked, and kept fitted for what is asked later."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Final

import numpy as np

from trsr import __version__
from trsr.artifacts import hash_value
from trsr.baselines.baseline import Baseline
from trsr.baselines.score import SEQUENTIAL, open_baseline
from trsr.baselines.sequential import Sequential, load_sequential
from trsr.baselines.sequential.settings import DEFAULTS
from trsr.config import Config
from trsr.config.experiments import BaselineName, Sampler
from trsr.errors import ArtifactError
from trsr.experiments.contest import MEASURED, Contest, Places
from trsr.experiments.retrieval import rank_panel, retrieval_depth
from trsr.experiments.scored import Floats, Scored
from trsr.experiments.shelf import Card
from trsr.records import Split

_USERS_A_CALL: Final = 4096
_COUNTS_INTERACTIONS: Final[frozenset[BaselineName]] = frozenset(("popularity", "itemknn"))


class BaselineSystems:
    """All baselines of one comparison.

    A fitted system stays in memory until the comparison is over, as the items that the two-stage
    ranking hands on are known only when all have been asked. Neural companions of the fused ranker are
    saved as well, so that a comparison that was killed in between needn't train them again.

    Parameters
    ----------
    config
        The run's settings.
    contest
        What is asked.
    folder
        Where trained systems are saved.
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
