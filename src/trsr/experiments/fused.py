"""The fused ranker of a comparison: scores that are there already, joined by what validation users say."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trsr.config import Config
from trsr.config.evaluation import BaselineName, Sampler
from trsr.experiments.protocol import Contest, Places
from trsr.experiments.scores import Card, Entry, Floats, Scored
from trsr.experiments.selection import FUSED
from trsr.experiments.systems import Bench
from trsr.fusion.features import LANGUAGE_MODEL, Evidence
from trsr.fusion.fusion import Fusion, fit_fusion
from trsr.records import Split
from trsr.report.results import Kind

_WEIGHTS: Final = "weights"
_POPULARITY: Final[Sampler] = "popularity"


class FusedSystem:
    """Joins one form of the language model with the companions, once a seed.

    One ranker serves all samplers: it learns from the validation users' candidates of all of them, and is
    told how candidates were drawn, as everybody who reads the table is. `entries` are all systems that took
    part, the companions among them; `form` is the one that validation chose.
    """

    def __init__(self, config: Config, contest: Contest, entries: Sequence[Entry], form: str) -> None:
        self._contest = contest
        self._companions: tuple[BaselineName, ...] = config.fusion.companions
        self._named = {entry.name: entry for entry in entries}
        self._form = form
        self._seeds = config.comparison.seeds

    def entry(self) -> Entry:
        """Learn from the validation users and score the test users."""
        return Entry(FUSED, Kind.FUSED, self._seeds, tuple(self._run(seed) for seed in self._seeds))

    def rerank(self, entry: Entry, bench: Bench, retriever: Entry) -> Entry:
        """Order what the retriever hands on, where the form of the language model has scored it."""
        form = self._named[self._form]
        retrieved, scores = [], []
        for place, seed in enumerate(self._seeds):
            items = bench.retrieved(retriever, seed)
            told: dict[str, Floats] = {LANGUAGE_MODEL: form.reranked[place]}
            for name in self._companions:
                told[name] = bench.score_with_baseline(name, seed, items)
            retrieved.append(items)
            own = self._contest.samplers[0] == _POPULARITY
            drawn = np.full(len(items), own)
            scores.append(self._fit(seed).score(self._evidence(told, items, drawn)))
        return entry.with_second_stage(retrieved, scores)

    def _run(self, seed: int) -> Scored:
        started = time.monotonic()
        fusion = self._fit(seed)
        fitted = time.monotonic() - started
        panel = self._contest.panels[Split.TEST]
        scores = {
            sampler: fusion.score(self._gathered(seed, Split.TEST, [sampler])) for sampler in panel.candidates
        }
        parts = [self._named[name].at(seed).card for name in (self._form, *self._companions)]
        weights: Mapping[str, float] = {
            name.replace(LANGUAGE_MODEL, self._form): round(weight, 6)
            for name, weight in fusion.weights.items()
        }
        card = Card(
            training_seconds=fitted + sum(part.training_seconds for part in parts),
            scoring_seconds=time.monotonic() - started - fitted,
            examples=fusion.users,
            negatives=f"{', '.join(panel.candidates)} candidates of validation users",
            details={_WEIGHTS: weights, "penalty": fusion.penalty, "calibration": fusion.calibration.kind},
        )
        return Scored({Split.TEST: scores}, {}, card)

    def _fit(self, seed: int) -> Fusion:
        panel = self._contest.panels[Split.VALID]
        samplers = list(panel.candidates)
        targets = np.concatenate([panel.columns[sampler] for sampler in samplers])
        return fit_fusion(self._gathered(seed, Split.VALID, samplers), targets, panel.users * len(samplers))

    def _gathered(self, seed: int, split: Split, samplers: Sequence[Sampler]) -> Evidence:
        """Put the scores of several samplers' candidates one below the other."""
        panel = self._contest.panels[split]
        candidates = np.concatenate([panel.candidates[sampler] for sampler in samplers])
        told = {}
        for name in (self._form, *self._companions):
            scores = self._named[name].at(seed).scores[split]
            known = LANGUAGE_MODEL if name == self._form else name
            told[known] = np.concatenate([scores[sampler] for sampler in samplers])
        drawn = [np.full(len(panel.users), sampler == _POPULARITY) for sampler in samplers]
        return self._evidence(told, candidates, np.concatenate(drawn))

    def _evidence(
        self, scores: Mapping[str, Floats], candidates: Places, drawn_by_popularity: NDArray[np.bool_]
    ) -> Evidence:
        return Evidence(scores, self._contest.data.counts[candidates], drawn_by_popularity)


def weights_of(entry: Entry) -> dict[str, float]:
    """Return the weights of a fused system, mean over seeds."""
    tables = [run.card.details[_WEIGHTS] for run in entry.runs]
    return {name: float(np.mean([table[name] for table in tables])) for name in tables[0]}
