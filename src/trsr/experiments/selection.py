"""What a comparison decides: who takes part, the retriever, and the best of each kind on validation.

All of it on the validation users. The functions measure these users only, so that no figure of
a test user can reach a choice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, get_args

import polars as pl

from trsr.config import Config
from trsr.config.evaluation import BaselineName, LanguageModelName
from trsr.errors import ConfigError
from trsr.evaluation.metrics import Recall, metrics_at
from trsr.evaluation.scoreboard import choose, summarise
from trsr.evaluation.statistics import average_seeds
from trsr.experiments.protocol import EvaluationProtocol
from trsr.experiments.scores import SystemScores, catalogue_frames, sampled_frames
from trsr.records import FUSED, Split
from trsr.registry import BASELINES, is_dotted, parse, spell
from trsr.report.results import Choice, Kind, Option

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
        able = [system for system in systems if system.runs[0].catalogue]
        measure = f"Recall@{depth} (catalogue)"
        return self._choose(
            f"retriever of {depth} items",
            measure,
            able,
            lambda system: catalogue_frames(system, self.protocol, Split.VALID, [Recall(k=depth)]),
        )

    def language_model(self, systems: Sequence[SystemScores]) -> Choice | None:
        """Choose the form of the language model; None without one."""
        forms = [system for system in systems if system.kind is Kind.LANGUAGE_MODEL]
        return self._by_measure("form of the language model", forms)

    def baseline(self, systems: Sequence[SystemScores]) -> Choice | None:
        """Choose the best system without a language model; None without one."""
        return self._by_measure(
            "best baseline", [system for system in systems if system.kind is Kind.BASELINE]
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
        return Choice(what, f"{self.measure}, {sampler} negatives", choice.options, choice.chosen)

    def _choose(
        self,
        what: str,
        measure: str,
        systems: Sequence[SystemScores],
        frames: Callable[[SystemScores], list[pl.DataFrame]],
    ) -> Choice | None:
        if not systems:
            return None
        results = {
            system.name: {
                Split.VALID.value: summarise(average_seeds(frames(system)), _NO_INTERVALS, self.config.seed)
            }
            for system in systems
        }
        options = tuple(
            Option(name, by_split[Split.VALID.value].metrics[measure].mean)
            for name, by_split in results.items()
        )
        return Choice(what, measure, options, choose(results, measure))


@dataclass(frozen=True, slots=True)
class SelectedSystems:
    """The systems of a comparison; `imported` are outside systems, None for all that were imported."""

    baselines: tuple[BaselineName, ...]
    language_models: tuple[LanguageModelName, ...]
    fused: bool
    imported: tuple[str, ...] | None = None


def select_systems(
    config: Config, only: Sequence[str] | None = None, imported: Sequence[str] = ()
) -> SelectedSystems:
    """Say who takes part.

    Companions of the fused ranker take part with it, also where `comparison.baselines` leaves them out.
    `only` names the systems wanted, also such as the settings leave out; None for all of the settings.
    `imported` are the outside systems at hand. Raises `ConfigError` when a name is unknown, or the fused
    ranker has no language model to join.

    Examples
    --------
    >>> select_systems(Config(), ["tfidf", "sasrec"])
    SelectedSystems(baselines=('tfidf', 'sasrec'), language_models=(), fused=False, imported=())
    """
    comparison = config.comparison
    if only is None:
        baselines, forms, taken = comparison.baselines, comparison.language_models, None
        fused = comparison.fused and bool(forms) and bool(config.fusion.companions)
    else:
        others = (*get_args(LanguageModelName), FUSED, *imported)
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
    if fused and not (forms and config.fusion.companions):
        message = (
            "the fused ranker joins a language model with fusion.companions: name one of "
            f"{', '.join(get_args(LanguageModelName))} beside it, and leave fusion.companions filled"
        )
        raise ConfigError(message)
    companions = config.fusion.companions if fused else ()
    return SelectedSystems(tuple(dict.fromkeys((*baselines, *companions))), forms, fused, taken)


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
