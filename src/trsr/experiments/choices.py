"""What a comparison decides: the retriever, the form of the language model, the best baseline.

All of it on the validation users. The functions measure these users only, so that no figure of
a test user can reach a choice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from trsr.config import Config
from trsr.evaluation.scoreboard import summarise
from trsr.evaluation.seeds import average_seeds
from trsr.evaluation.selection import choose
from trsr.experiments.contest import Contest
from trsr.experiments.entry import Entry, catalogue_frames, sampled_frames
from trsr.records import Split
from trsr.report.comparison.provenance import Choice, Option
from trsr.report.comparison.standings import Kind

_NO_INTERVALS: Final = 1


@dataclass(frozen=True, slots=True)
class Judge:
    """Chooses among systems by one measure on the validation users.

    Parameters
    ----------
    config
        The run's settings.
    contest
        What was asked.
    """

    config: Config
    contest: Contest

    @property
    def measure(self) -> str:
        """The primary measure: NDCG at the greatest cut-off, among the run's own candidates."""
        return f"NDCG@{max(self.config.evaluation.ks)}"

    def retriever(self, entries: Sequence[Entry], depth: int) -> Choice | None:
        """Choose who retrieves, by the recall of the retrieved items; None when nobody can."""
        able = [entry for entry in entries if entry.runs[0].catalogue]
        measure = f"Recall@{depth} (catalogue)"
        return self._choose(
            f"retriever of {depth} items",
            measure,
            able,
            lambda entry: catalogue_frames(entry, self.contest, Split.VALID, [depth]),
        )

    def language_model(self, entries: Sequence[Entry]) -> Choice | None:
        """Choose the form of the language model; None without one."""
        forms = [entry for entry in entries if entry.kind is Kind.LANGUAGE_MODEL]
        return self._by_measure("form of the language model", forms)

    def baseline(self, entries: Sequence[Entry]) -> Choice | None:
        """Choose the best system without a language model; None without one."""
        return self._by_measure("best baseline", [entry for entry in entries if entry.kind is Kind.BASELINE])

    def single(self, entries: Sequence[Entry]) -> Choice | None:
        """Choose the best system that is not fused; None without one."""
        return self._by_measure(
            "best single system", [entry for entry in entries if entry.kind is not Kind.FUSED]
        )

    def _by_measure(self, what: str, entries: Sequence[Entry]) -> Choice | None:
        sampler = self.contest.samplers[0]
        entries = [entry for entry in entries if sampler in entry.runs[0].scores.get(Split.VALID, {})]
        ks = self.config.evaluation.ks
        choice = self._choose(
            what,
            self.measure,
            entries,
            lambda entry: sampled_frames(entry, self.contest, Split.VALID, sampler, ks),
        )
        if choice is None:
            return None
        return Choice(what, f"{self.measure}, {sampler} negatives", choice.options, choice.chosen)

    def _choose(
        self,
        what: str,
        measure: str,
        entries: Sequence[Entry],
        frames: Callable[[Entry], list[pl.DataFrame]],
    ) -> Choice | None:
        if not entries:
            return None
        results = {
            entry.name: {
                Split.VALID.value: summarise(average_seeds(frames(entry)), _NO_INTERVALS, self.config.seed)
            }
            for entry in entries
        }
        options = tuple(
            Option(name, by_split[Split.VALID.value].metrics[measure].mean)
            for name, by_split in results.items()
        )
        return Choice(what, measure, options, choose(results, measure))
