"""The fused ranker as a system: scores that are there already, joined by what validation users say."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trsr.baselines.training_data import NOTHING
from trsr.config import Config
from trsr.config.evaluation import BaselineName, Sampler
from trsr.errors import DataError
from trsr.evaluation.catalogue import CatalogueRanks
from trsr.experiments.protocol import EvaluationProtocol, Ints, Places, SplitData
from trsr.experiments.scores import Floats, InCatalogue, ScoreInfo, SeedScores, SystemScores, kept_scores
from trsr.experiments.systems import Baselines, LanguageModel, second_stage_scores
from trsr.fusion.companions import WEIGHTS, Companions
from trsr.fusion.features import LANGUAGE_MODEL, Evidence, joined
from trsr.fusion.fusion import Fusion, cross_fit, fit_fusion, too_few
from trsr.fusion.retrieval import PROPOSED, fit_catalogue, place_targets
from trsr.records import FUSED, Split
from trsr.report.results import Kind
from trsr.stages.work import Work

_WEIGHTS: Final = "weights"
_POPULARITY: Final[Sampler] = "popularity"


def fuse(
    work: Work,
    protocol: EvaluationProtocol,
    systems: Sequence[SystemScores],
    baselines: Baselines,
    model: LanguageModel | None = None,
) -> list[SystemScores]:
    """Join a run's language model, the first of its systems, with its companions.

    Returned are the fused ranker, and the companions that are not among `systems`; nothing when the settings
    name no companion or the validation users are too few. The trained companions and their weights are kept
    in the run folder, to be served. With the `model`, which is asked about retrieved items, the fused ranker
    ranks the whole catalogue, too.
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
        together = Companions(fitted, protocol.data.counts)
        together.save(folder)
        fusion = fused.fit(seed)
        fusion.save(folder / WEIGHTS)
        cold = int((protocol.data.counts == 0).sum())
        work.say(f"  learnt from {fusion.users} validation users: {_told(fusion)}")
        work.say(f"  {cold:,} items that training never saw are ranked by their texts")
        scores = fused.scores(seed)
        if model is None or not config.fusion.items:
            return scores
        return over_catalogue(work, protocol, model, together, scores, keep=folder)

    scored = kept_scores(
        work,
        FUSED,
        protocol,
        answer,
        purpose="learn on validation users how much each system counts",
        settings=("fusion.items", "fusion.retrievers", "fusion.index", "fusion.companions"),
        content=[system.at(seed).digest for system in (systems[0], *companions.values())],
        also=[folder],
    )
    new = [system for name, system in companions.items() if name not in known]
    return [SystemScores(FUSED, Kind.FUSED, (seed,), (scored.value,)), *new]


def _told(fusion: Fusion) -> str:
    return ", ".join(f"{name} {weight:+.2f}" for name, weight in fusion.weights.items())


def over_catalogue(
    work: Work,
    protocol: EvaluationProtocol,
    model: LanguageModel,
    companions: Companions,
    scores: SeedScores,
    *,
    name: str = "catalogue",
    keep: Path | None = None,
) -> SeedScores:
    """Learn to rank the whole catalogue from lists retrieved for validation users.

    Added to the `scores` is where targets stand: those of validation users by weights that never saw them.
    Nothing is, and that is said, when too few of their targets are retrieved. What the model says of the
    lists is kept under the `name`, what was learnt in the folder `keep`, to be served. Raises `ConfigError`
    when there can be no index.
    """
    try:
        return _over_catalogue(work, protocol, model, companions, scores, name, keep)
    except DataError as error:
        work.say(f"  no fused ranker of the whole catalogue: {error}")
        return scores


def _over_catalogue(
    work: Work,
    protocol: EvaluationProtocol,
    model: LanguageModel,
    companions: Companions,
    scores: SeedScores,
    name: str,
    keep: Path | None,
) -> SeedScores:
    started, config, n_items = time.monotonic(), work.config.fusion, protocol.prepared.items.height
    retriever, items = companions.retriever(config), min(config.items, n_items)

    def read(split: Split, places: Places) -> Floats:
        data, title = protocol.splits[split], f"{split}: {places.shape[1]} retrieved items a user"
        scored = second_stage_scores(
            work,
            f"{name}/{split}",
            model.digest,
            data.users,
            places,
            lambda: np.stack(model.score(protocol, split, list(places), title)),
        )
        return scored.value

    valid, test = (protocol.splits[split] for split in (Split.VALID, Split.TEST))
    people, read_valid = valid.persons or valid.users, partial(read, Split.VALID)
    learnt, listed, sums = fit_catalogue(retriever, people, valid.histories, valid.targets, items, read_valid)
    if keep:
        learnt.save(keep)
    work.say(f"  of the whole catalogue, {items} items read of each user: {_told(learnt.full)}")
    short = learnt.shortlist(retriever.propose(test.users, test.histories, PROPOSED * items))
    tested = learnt.full.score(short.read(read(Split.TEST, short.places)))
    keeps = protocol.config.split.keeps_history
    found = {
        Split.VALID: in_catalogue(listed, sums, valid, n_items, keeps_history=keeps),
        Split.TEST: in_catalogue(short.places, tested, test, n_items, keeps_history=keeps),
    }
    told = {"items": items, _WEIGHTS: {name: round(value, 6) for name, value in learnt.full.weights.items()}}
    info = replace(
        scores.info,
        scoring_seconds=scores.info.scoring_seconds + time.monotonic() - started,
        details={**scores.info.details, "catalogue": told},
    )
    return replace(scores, catalogue=found, info=info)


def in_catalogue(
    places: Places, scores: Floats, data: SplitData, n_items: int, *, keeps_history: bool = False
) -> InCatalogue:
    """Say where targets stand when lists ``(n_users, n_listed)`` go first, and all other items level behind.

    As for every system, the history leaves the catalogue's ranking unless it `keeps_history`, but for the
    target; `recommended` are the lists as they are.
    """
    column, hidden = place_targets(places, data.targets), data.hidden(keeps_history)
    own = np.where(
        column >= 0, np.take_along_axis(scores, np.maximum(column, 0)[:, None], axis=1)[:, 0], -np.inf
    )
    taken = np.stack([np.isin(row, history) for row, history in zip(places, hidden, strict=True)])
    gone = taken & (places != data.targets[:, None])
    known = [len(np.union1d(history, [target])) for history, target in zip(hidden, data.targets, strict=True)]

    def ranks(left: NDArray[np.bool_], others: Ints) -> CatalogueRanks:
        above = ((scores > own[:, None]) & left).sum(axis=1)
        level = ((scores == own[:, None]) & left).sum(axis=1) - 1
        return CatalogueRanks(above, np.where(column >= 0, level, others - above), others)

    order = np.argsort(-scores, axis=1, kind="stable")
    depth = int((~taken).sum(axis=1).min())
    first = [row[by][~out[by]][:depth] for row, by, out in zip(places, order, taken, strict=True)]
    whole = np.full(len(places), n_items - 1)
    return InCatalogue(
        ranks(~gone, n_items - np.array(known)), np.stack(first), ranks(np.ones_like(gone), whole)
    )


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
        people = data.persons or data.users  # a person's rows stay together
        return self._gathered(seed, Split.VALID, samplers), targets, people * len(samplers)

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
