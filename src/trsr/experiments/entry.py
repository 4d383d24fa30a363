"""One system of a comparison with all that it answered, and its metrics user by user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.config.experiments import Sampler
from trsr.evaluation.catalogue import catalogue_metrics
from trsr.evaluation.expectation import sampled_expectation
from trsr.evaluation.metrics import AUC, expected_auc, expected_metrics, place_target
from trsr.evaluation.two_stage import two_stage_metrics
from trsr.evaluation.user_metrics import metrics_frame
from trsr.experiments.contest import Contest, Places
from trsr.experiments.scored import Floats, Scored
from trsr.records import ITEM, SCORE, SPLIT, TARGET, USER, Split
from trsr.report.comparison.standings import Kind


@dataclass(frozen=True, slots=True)
class Entry:
    """One system.

    Parameters
    ----------
    name
        Its name in tables.
    kind
        What it is made of.
    seeds
        Training seeds, or the run's alone where nothing is drawn.
    runs
        Its answers, one a seed.
    retrieved
        For each seed, which items of the two-stage ranking it was given, ``(n_test_users, depth)``;
        empty when there was none.
    reranked
        Its scores of these items, of the same form.
    """

    name: str
    kind: Kind
    seeds: tuple[int, ...]
    runs: tuple[Scored, ...]
    retrieved: tuple[Places, ...] = ()
    reranked: tuple[Floats, ...] = ()

    def at(self, seed: int) -> Scored:
        """Return the answers of one seed; a system without chance gives the same to every seed."""
        return self.runs[self.seeds.index(seed)] if seed in self.seeds else self.runs[0]

    def with_second_stage(self, retrieved: Sequence[Places], reranked: Sequence[Floats]) -> Entry:
        """Add the answers of the two-stage ranking."""
        return replace(self, retrieved=tuple(retrieved), reranked=tuple(reranked))

    def as_retrieved(self) -> Entry:
        """Let a retriever's own order stand as a second stage that changes nothing."""
        retrieved = [run.catalogue[Split.TEST].retrieved for run in self.runs]
        return self.with_second_stage(
            retrieved,
            [np.tile(-np.arange(rows.shape[1], dtype=np.float64), (len(rows), 1)) for rows in retrieved],
        )


def sampled_frames(
    entry: Entry, contest: Contest, split: Split, sampler: Sampler, ks: Sequence[int]
) -> list[pl.DataFrame]:
    """Measure a system among the frozen candidates; one frame of user metrics a seed."""
    panel = contest.panels[split]
    frames = []
    for run in entry.runs:
        scores = run.scores[split][sampler]
        above, tied = place_target(scores, panel.columns[sampler])
        metrics = expected_metrics(above, tied, ks)
        metrics[AUC] = expected_auc(above, tied, np.full(len(above), scores.shape[1] - 1))
        frames.append(metrics_frame(panel.users, [split.value] * len(panel.users), tied, metrics))
    return frames


def catalogue_frames(entry: Entry, contest: Contest, split: Split, ks: Sequence[int]) -> list[pl.DataFrame]:
    """Measure a system in the whole catalogue; empty for a system that doesn't rank it."""
    return [
        _frame(
            contest, split, run.catalogue[split].ranks.tied, catalogue_metrics(run.catalogue[split].ranks, ks)
        )
        for run in entry.runs
        if split in run.catalogue
    ]


def expected_frames(
    entry: Entry, contest: Contest, split: Split, negatives: int, ks: Sequence[int]
) -> list[pl.DataFrame]:
    """Compute the exact expectation of the figures under uniform negatives, from ranks in the catalogue."""
    return [
        _frame(
            contest,
            split,
            run.catalogue[split].ranks.tied,
            sampled_expectation(run.catalogue[split].ranks, negatives, ks),
        )
        for run in entry.runs
        if split in run.catalogue
    ]


def two_stage_frames(entry: Entry, contest: Contest, ks: Sequence[int]) -> list[pl.DataFrame]:
    """Measure the order that a system gives to the retrieved items, on the test users."""
    targets = targets_frame(contest, Split.TEST)
    return [
        two_stage_metrics(targets, _pairs(contest, Split.TEST, retrieved, scores), ks)
        for retrieved, scores in zip(entry.retrieved, entry.reranked, strict=True)
    ]


def targets_frame(contest: Contest, split: Split) -> pl.DataFrame:
    """Give `USER`, `SPLIT` and `TARGET` of one split's users."""
    panel = contest.panels[split]
    return pl.DataFrame(
        {
            USER: panel.users,
            SPLIT: [split.value] * len(panel.users),
            TARGET: contest.prepared.items[ITEM].gather(panel.targets),
        }
    )


def scores_frame(contest: Contest, split: Split, sampler: Sampler, scores: Floats) -> pl.DataFrame:
    """Give `USER`, `ITEM` and `SCORE` of one sampler's candidates."""
    return _pairs(contest, split, contest.panels[split].candidates[sampler], scores)


def _pairs(contest: Contest, split: Split, items: Places, scores: Floats) -> pl.DataFrame:
    users = pl.Series(USER, contest.panels[split].users, dtype=pl.String)
    return pl.DataFrame(
        [
            users.gather(np.repeat(np.arange(len(users)), items.shape[1])),
            contest.prepared.items[ITEM].gather(items.ravel()),
            pl.Series(SCORE, scores.ravel()),
        ]
    )


def _frame(
    contest: Contest, split: Split, tied: NDArray[np.int64], metrics: dict[str, NDArray[np.float64]]
) -> pl.DataFrame:
    users = contest.panels[split].users
    return metrics_frame(users, [split.value] * len(users), tied, metrics)
