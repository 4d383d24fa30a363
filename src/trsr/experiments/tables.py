"""The tables of a comparison, in figures that every repetition gives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import polars as pl

from trsr.config import Config
from trsr.config.evaluation import Sampler
from trsr.data.candidates import training_counts
from trsr.evaluation.catalogue import CEILING
from trsr.evaluation.metrics import metric_names, metrics_at, plain_name
from trsr.evaluation.scoreboard import summarise
from trsr.evaluation.slices import RULES, slice_results, slices
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
    sampled_frames,
    two_stage_frames,
)
from trsr.records import ITEM, SPLIT, Split
from trsr.report.comparison.results import Contrast, Slice, Standing, Table, TwoStage

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
    system, and the best single one by validation.
    """

    def __init__(
        self, config: Config, protocol: EvaluationProtocol, measure: str, references: Sequence[str]
    ) -> None:
        self._config = config
        self._protocol = protocol
        self._measure = measure
        self._references = tuple(references)
        self._metrics = metrics_at(config.evaluation.ks, config.evaluation.metrics)
        # Tests in the table's first and last measure: what is quoted, and what choices go by.
        self._tested = tuple(dict.fromkeys((f"Recall@{config.evaluation.ks[0]}", measure)))

    def sampled(
        self, systems: Sequence[SystemScores], sampler: Sampler, pairs: Sequence[tuple[str, str]] = ()
    ) -> Table:
        """Make the table of all systems on one sampler's candidates; further `pairs` are tested in it."""
        frames = {
            system.name: sampled_frames(system, self._protocol, Split.TEST, sampler, self._metrics)
            for system in systems
            if sampler in system.runs[0].scores[Split.TEST]
        }
        exact = self._exact(systems) if sampler == "uniform" else {}
        candidates = self._protocol.splits[Split.TEST].candidates[sampler].shape[1]
        return Table(
            sampler=sampler,
            candidates=candidates,
            standings=self._standings(frames, exact),
            contrasts=self._contrasts(frames, pairs),
            slices=self._slices(frames),
            note=f"{candidates - 1} {sampler} negatives a target, frozen with seed {self._config.seed}.",
        )

    def catalogue(self, systems: Sequence[SystemScores]) -> Table | None:
        """Make the table of ranks in the whole catalogue; None when nobody ranks it."""
        frames = {
            system.name: found
            for system in systems
            if (found := catalogue_frames(system, self._protocol, Split.TEST, self._metrics))
        }
        if not frames:
            return None
        plain = {name: [_plain(frame) for frame in runs] for name, runs in frames.items()}
        items = self._protocol.prepared.items.height
        return Table(
            sampler=CATALOGUE,
            candidates=items,
            standings=self._standings(plain, {}),
            contrasts=self._contrasts(plain, ()),
            note=f"All {items:,} items but the user's history; the language model is too slow for it.",
        )

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
        plain = {name: [_plain(frame.drop(CEILING)) for frame in runs] for name, runs in frames.items()}
        return TwoStage(retriever, depth, ceiling, self._standings(plain, {}))

    def _standings(self, frames: Frames, exact: Mapping[str, Mapping[str, float]]) -> tuple[Standing, ...]:
        against = self._against_best(frames)
        rows = []
        for name, runs in frames.items():
            result = summarise(average_seeds(runs), self._config.evaluation.bootstrap, self._config.seed)
            spread = seed_spread(runs)
            rows.append(
                Standing(
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
            runs = expected_frames(system, self._protocol, Split.TEST, negatives, self._metrics)
            if runs:
                means = average_seeds([_plain(run) for run in runs])
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

    def _contrasts(self, frames: Frames, pairs: Sequence[tuple[str, str]]) -> tuple[Contrast, ...]:
        """Test every system against each reference, and further pairs; each group is a family of its own."""
        averaged = {name: average_seeds(runs) for name, runs in frames.items()}
        ranked = sorted(averaged, key=lambda name: -float(averaged[name][self._measure].to_numpy().mean()))
        groups = [with_reference(list(averaged), name) for name in self._references if name in averaged]
        wanted = [*pairs, (ranked[0], ranked[1])] if len(ranked) > 1 else [*pairs]
        groups += [[pair] for pair in wanted if len(set(pair) & set(averaged)) == 2]
        told: dict[frozenset[str], Contrast] = {}
        for group in groups:
            for test in self._tests(averaged, group, self._measure):
                told.setdefault(
                    frozenset((test.first, test.second)),
                    Contrast(test.first, test.second, test.metric, test.difference, test.p_holm),
                )
        return tuple(told.values())

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


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
    """Name metrics without their protocol, which the table says."""
    return frame.rename({name: plain_name(name) for name in metric_names(frame)})
