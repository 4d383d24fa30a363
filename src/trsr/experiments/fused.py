"""The fused ranker as a system: scores that are there already, joined by what validation users say."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from trsr.baselines.base import NOTHING
from trsr.config import Config
from trsr.config.evaluation import BaselineName, Sampler
from trsr.errors import DataError
from trsr.experiments.protocol import EvaluationProtocol, Ints, Places
from trsr.experiments.scores import Floats, ScoreInfo, SeedScores, SystemScores, kept_scores
from trsr.experiments.systems import Baselines
from trsr.fusion.companions import WEIGHTS, Companions
from trsr.fusion.features import LANGUAGE_MODEL, Evidence, joined
from trsr.fusion.fusion import Fusion, cross_fit, fit_fusion, too_few
from trsr.records import FUSED, Split
from trsr.report.results import Kind
from trsr.stages.work import Work

_WEIGHTS: Final = "weights"
_POPULARITY: Final[Sampler] = "popularity"


def fuse(
    work: Work, protocol: EvaluationProtocol, systems: Sequence[SystemScores], baselines: Baselines
) -> list[SystemScores]:
    """Join a run's language model, the first of its systems, with its companions.

    Returned are the fused ranker, and the companions that are not among `systems`; nothing when the settings
    name no companion or the validation users are too few. The trained companions and their weights are kept
    in the run folder, to be served.
    """
    names, seed, folder = work.config.fusion.companions, work.config.training_seed, work.folder.fusion
    if not names:
        work.say("  fusion.companions is empty: no fused ranker")
        return []
    if few := too_few(len(protocol.splits[Split.VALID].users)):
        work.say(f"  {few}")
        return []
    known = {system.name: system for system in systems}
    purpose = "train a companion, score the frozen candidates"
    companions = {name: known.get(name) or baselines.system(name, seed, purpose=purpose) for name in names}
    fused = FusedSystem(protocol, systems[0], companions)

    def answer(config: Config) -> SeedScores:
        shutil.rmtree(folder, ignore_errors=True)
        fitted = {name: baselines.fitted(name, companions[name].seeds[0]) for name in names}
        Companions(fitted, protocol.data.counts).save(folder)
        fusion = fused.fit(seed)
        fusion.save(folder / WEIGHTS)
        weights = ", ".join(f"{name} {weight:+.2f}" for name, weight in fusion.weights.items())
        cold = int((protocol.data.counts == 0).sum())
        work.say(f"  learnt from {fusion.users} validation users: {weights}")
        work.say(f"  {cold:,} items that training never saw are ranked by their texts")
        return fused.scores(seed)

    scored = kept_scores(
        work,
        FUSED,
        protocol,
        answer,
        purpose="learn on validation users how much each system counts",
        content=[system.at(seed).digest for system in (systems[0], *companions.values())],
        also=[folder],
    )
    new = [system for name, system in companions.items() if name not in known]
    return [SystemScores(FUSED, Kind.FUSED, (seed,), (scored.value,)), *new]


class FusedSystem:
    """Joins one form of the language model with its companions, one training seed at a time.

    One ranker serves all samplers: it learns from the validation users' candidates of all of them, and is
    told how candidates were drawn, as everybody who reads the table is.

    Parameters
    ----------
    form
        The language model's scores.
    companions
        Those of the systems that it is joined with.
    """

    def __init__(
        self,
        protocol: EvaluationProtocol,
        form: SystemScores,
        companions: Mapping[BaselineName, SystemScores],
    ) -> None:
        _require_one_answer(protocol)
        self._protocol = protocol
        self._form = form
        self._companions = companions
        self._fitted: dict[int, tuple[Fusion, float]] = {}

    def fit(self, seed: int) -> Fusion:
        """Learn from the validation users, once for each training seed."""
        return self._timed_fit(seed)[0]

    def scores(self, seed: int) -> SeedScores:
        """Score all candidates; those of validation users by weights that never saw the user."""
        fusion, fitted = self._timed_fit(seed)
        started = time.monotonic()
        evidence, targets, users = self._learnt_from(seed)
        valid, test = (self._protocol.splits[split] for split in (Split.VALID, Split.TEST))
        honest = np.split(cross_fit(evidence, targets, users), len(valid.candidates))
        tested = {
            sampler: fusion.score(self._gathered(seed, Split.TEST, [sampler])) for sampler in test.candidates
        }
        parts = [system.at(seed).info for system in (self._form, *self._companions.values())]
        weights = {
            name.replace(LANGUAGE_MODEL, self._form.name): round(weight, 6)
            for name, weight in fusion.weights.items()
        }
        info = ScoreInfo(
            training_seconds=fitted + sum(part.training_seconds for part in parts),
            scoring_seconds=time.monotonic() - started,
            examples=fusion.users,
            negatives=f"{', '.join(valid.candidates)} candidates of validation users",
            details={_WEIGHTS: weights, "penalty": fusion.penalty, "calibration": fusion.calibration.kind},
        )
        scores = {Split.VALID: dict(zip(valid.candidates, honest, strict=True)), Split.TEST: tested}
        return SeedScores(scores, {}, info)

    def rerank(self, seed: int, retrieved: Places, scores: Mapping[BaselineName, Floats]) -> Floats:
        """Order what a retriever handed on.

        The language model has scored it; `scores` are those of the companions.
        """
        place = self._form.seeds.index(seed)
        told = {LANGUAGE_MODEL: self._form.reranked[place]} | {str(name): of for name, of in scores.items()}
        drawn = np.full(len(retrieved), self._protocol.samplers[0] == _POPULARITY)
        return self.fit(seed).score(Evidence(told, self._protocol.data.counts[retrieved], drawn))

    def _timed_fit(self, seed: int) -> tuple[Fusion, float]:
        """Return what was learnt, and the seconds that it took."""
        if seed not in self._fitted:
            started = time.monotonic()
            fusion = fit_fusion(*self._learnt_from(seed))
            self._fitted[seed] = fusion, time.monotonic() - started
        return self._fitted[seed]

    def _learnt_from(self, seed: int) -> tuple[Evidence, Ints, tuple[str, ...]]:
        data = self._protocol.splits[Split.VALID]
        samplers = list(data.candidates)
        targets = np.concatenate([data.columns[sampler] for sampler in samplers])
        return self._gathered(seed, Split.VALID, samplers), targets, data.users * len(samplers)

    def _gathered(self, seed: int, split: Split, samplers: Sequence[Sampler]) -> Evidence:
        """Put the scores of several samplers' candidates one below the other."""
        data = self._protocol.splits[split]
        systems = {LANGUAGE_MODEL: self._form} | dict(self._companions.items())
        return joined(
            [
                Evidence(
                    {name: system.at(seed).scores[split][sampler] for name, system in systems.items()},
                    self._protocol.data.counts[data.candidates[sampler]],
                    np.full(len(data.users), sampler == _POPULARITY),
                )
                for sampler in samplers
            ]
        )


def _require_one_answer(protocol: EvaluationProtocol) -> None:
    """Raise `DataError` where rows have several positives, or candidates of different number."""
    for data in protocol.splits.values():
        ragged = any((rows == NOTHING).any() for rows in data.candidates.values())
        if ragged or (data.positives is not None and (data.positives.sum(axis=1) > 1).any()):
            message = (
                "it learns from rows with one positive among candidates of one number, and some impressions "
                "have several, or fewer candidates"
            )
            raise DataError(message)


def weights_of(system: SystemScores) -> dict[str, float]:
    """Return the weights of a fused system, mean over seeds."""
    tables = [run.info.details[_WEIGHTS] for run in system.runs]
    return {name: float(np.mean([table[name] for table in tables])) for name in tables[0]}
