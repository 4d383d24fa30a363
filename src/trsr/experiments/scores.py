"""What one system answered with each seed, the table that it is kept in, and what it measures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.artifacts import read_parquet, write_json, write_parquet
from trsr.baselines.training_data import NOTHING
from trsr.config import Config
from trsr.config.evaluation import Sampler
from trsr.evaluation.catalogue import (
    CatalogueRanks,
    catalogue_metrics,
    sampled_expectation,
    two_stage_metrics,
)
from trsr.evaluation.metrics import (
    AUC,
    Metric,
    expected_metrics,
    metrics_at,
    metrics_frame,
    named,
    place_target,
    several_positives,
)
from trsr.evaluation.metrics import Protocol as MetricProtocol
from trsr.evaluation.scoreboard import Result, summarise, to_json
from trsr.evaluation.statistics import average_seeds
from trsr.experiments.protocol import EvaluationProtocol, Places
from trsr.records import IN_CATALOGUE, ITEM, MEASURED, PERSON, SCORE, SPLIT, TARGET, USER, Split
from trsr.registry import METRICS, identity
from trsr.report.results import Kind
from trsr.stages.work import Artifact, Made, Work

Floats = NDArray[np.float64]

SAMPLER: Final = "sampler"
_ABOVE: Final = "above"
_TIED: Final = "tied"
_OTHERS: Final = "others"
_RETRIEVED: Final = "retrieved"
_IN_LIST: Final = "recommended_"


@dataclass(frozen=True, slots=True)
class InCatalogue:
    """Where each user's target stands in the whole catalogue, and what stands first.

    `retrieved` are the best items outside the history, best first, ``(n_users, depth)``. `recommended` is
    where the target stands in the list that `recommend` gives, from which no history is taken; None of a
    system that gives none.
    """

    ranks: CatalogueRanks
    retrieved: Places
    recommended: CatalogueRanks | None = None


@dataclass(frozen=True, slots=True)
class ScoreInfo:
    """How scores came about.

    Parameters
    ----------
    training_seconds
        Wall time until the system could score; 0 for a system that needs none.
    examples
        Training examples; None for a system that isn't trained.
    negatives
        Kind of training negatives, in words; empty when there are none.
    details
        What else is worth telling, as JSON values.
    """

    training_seconds: float = 0.0
    scoring_seconds: float = 0.0
    examples: int | None = None
    negatives: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Wall time of training and scoring."""
        return self.training_seconds + self.scoring_seconds


@dataclass(frozen=True, slots=True)
class SeedScores:
    """One system's scores with one training seed.

    Parameters
    ----------
    scores
        Split to sampler to scores of the frozen candidates, ``(n_users, n_candidates)``. Those of validation
        users by a fused ranker are cross-fitted; an outside system has what was imported.
    catalogue
        Split to places in the whole catalogue; empty for a system that doesn't rank it.
    digest
        Hash of the content, of scores that are kept.
    """

    scores: Mapping[Split, Mapping[Sampler, Floats]]
    catalogue: Mapping[Split, InCatalogue]
    info: ScoreInfo
    digest: str = ""


def kept_scores(
    work: Work,
    name: str,
    protocol: EvaluationProtocol,
    answer: Callable[[Config], SeedScores],
    *,
    purpose: str = "",
    settings: Sequence[str] = (),
    content: Any = None,
    also: Sequence[Path] = (),
) -> Artifact[SeedScores]:
    """Give a system's scores: those in ``scores/NAME.parquet`` when they are complete, else new ones.

    `settings` and `content` say what else than the protocol decides them; see `Work.step`. `also` is what
    `answer` writes beside the scores.
    """
    path = work.folder.scores / f"{name}.parquet"
    in_catalogue = path.with_suffix(f"{IN_CATALOGUE}.parquet")

    def make(config: Config) -> Made:
        scored = answer(config)
        write_parquet(to_frame(scored, protocol), path)
        outputs = [path, *also]
        if scored.catalogue:
            write_parquet(_catalogue_frame(scored, protocol), in_catalogue)
            outputs.append(in_catalogue)
        return Made(outputs, asdict(scored.info))

    def load(made: Artifact[SeedScores]) -> SeedScores:
        tables = [made.folder.path / name for name in made.entry.outputs if name.endswith(".parquet")]
        ranked = [path for path in tables if path.stem.endswith(IN_CATALOGUE)]
        [scored] = set(tables) - set(ranked)
        return SeedScores(
            from_frame(read_parquet(scored), protocol),
            _catalogue(read_parquet(ranked[0])) if ranked else {},
            ScoreInfo(**made.entry.details),
            made.digest,
        )

    return work.step(
        f"scores/{name}",
        purpose,
        make,
        load,
        settings=settings,
        content=[protocol.digest, content],
    )


def to_frame(scored: SeedScores, protocol: EvaluationProtocol) -> pl.DataFrame:
    """Put scores into rows: `USER`, `SPLIT`, `SAMPLER`, `ITEM`, `SCORE`, in the order of the candidates."""
    return pl.concat(
        [
            _pairs(protocol, split, protocol.splits[split].candidates[sampler], scores).select(
                USER, pl.lit(split.value).alias(SPLIT), pl.lit(sampler).alias(SAMPLER), ITEM, SCORE
            )
            for split in MEASURED
            for sampler, scores in scored.scores.get(split, {}).items()
        ]
    )


def from_frame(frame: pl.DataFrame, protocol: EvaluationProtocol) -> dict[Split, dict[Sampler, Floats]]:
    """Read what `to_frame` made."""
    scores: dict[Split, dict[Sampler, Floats]] = {}
    for (split, sampler), rows in frame.group_by(SPLIT, SAMPLER, maintain_order=True):
        of_split = Split(str(split))
        asked = protocol.splits[of_split].candidates[sampler] != NOTHING
        table = np.full(asked.shape, -np.inf)
        table[asked] = rows[SCORE].to_numpy()
        scores.setdefault(of_split, {})[sampler] = table
    return scores


def _catalogue_frame(scored: SeedScores, protocol: EvaluationProtocol) -> pl.DataFrame:
    return pl.concat(
        [
            pl.DataFrame(
                {
                    USER: protocol.splits[split].users,
                    SPLIT: [split.value] * len(protocol.splits[split].users),
                    **_ranks_columns(found.ranks),
                    _RETRIEVED: lists(found.retrieved),
                    **(_ranks_columns(found.recommended, _IN_LIST) if found.recommended else {}),
                }
            )
            for split, found in scored.catalogue.items()
        ]
    )


def _ranks_columns(ranks: CatalogueRanks, prefix: str = "") -> dict[str, NDArray[np.int64]]:
    return {
        f"{prefix}{_ABOVE}": ranks.above,
        f"{prefix}{_TIED}": ranks.tied,
        f"{prefix}{_OTHERS}": ranks.others,
    }


def _catalogue(frame: pl.DataFrame) -> dict[Split, InCatalogue]:
    def ranks(rows: pl.DataFrame, prefix: str = "") -> CatalogueRanks:
        return CatalogueRanks(*(rows[f"{prefix}{name}"].to_numpy() for name in (_ABOVE, _TIED, _OTHERS)))

    found = {}
    for (split,), rows in frame.group_by(SPLIT, maintain_order=True):
        listed = ranks(rows, _IN_LIST) if f"{_IN_LIST}{_ABOVE}" in rows.columns else None
        found[Split(str(split))] = InCatalogue(ranks(rows), table(rows[_RETRIEVED]).astype(np.int32), listed)
    return found


def lists(rows: Floats | Places) -> pl.Series:
    """Turn a rectangle into a column of lists.

    Examples
    --------
    >>> lists(np.array([[0.5, 1.0]])).to_list()
    [[0.5, 1.0]]
    """
    return pl.Series(rows).arr.to_list() if len(rows) else pl.Series([], dtype=pl.List(pl.Float64))


def table(column: pl.Series) -> NDArray[np.float64] | NDArray[np.int32]:
    """Turn a column of lists of one length into a rectangle.

    Examples
    --------
    >>> table(pl.Series([[0.5, 1.0], [0.0, 2.0]])).shape
    (2, 2)
    """
    width = column.list.len()[0] if len(column) else 0
    rectangle: NDArray[np.float64] = column.explode().to_numpy().reshape(len(column), width)
    return rectangle


@dataclass(frozen=True, slots=True)
class SystemScores:
    """One system.

    Parameters
    ----------
    seeds
        Training seeds, or the run's alone where nothing is drawn.
    runs
        Its scores, one a seed.
    retrieved
        For each seed, which items of the two-stage ranking it was given, ``(n_test_users, depth)``;
        empty when there was none.
    reranked
        Its scores of these items, of the same form.
    summaries, steps
        What a language model was told of each user at the first seed, and how it was summarised block by
        block; empty for any other.
    """

    name: str
    kind: Kind
    seeds: tuple[int, ...]
    runs: tuple[SeedScores, ...]
    retrieved: tuple[Places, ...] = ()
    reranked: tuple[Floats, ...] = ()
    summaries: Mapping[str, str] = field(default_factory=dict)
    steps: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def at(self, seed: int) -> SeedScores:
        """Return the scores of one seed; a system without chance gives the same to every seed."""
        return self.runs[self.seeds.index(seed)] if seed in self.seeds else self.runs[0]

    def with_second_stage(self, retrieved: Sequence[Places], reranked: Sequence[Floats]) -> SystemScores:
        """Add the scores of the two-stage ranking."""
        return replace(self, retrieved=tuple(retrieved), reranked=tuple(reranked))

    def handed_on(self, seed: int, depth: int) -> Places:
        """Give the first items that it retrieves for the test users, ``(n_test_users, depth)``."""
        return self.at(seed).catalogue[Split.TEST].retrieved[:, :depth]

    def as_retrieved(self, depth: int) -> SystemScores:
        """Let a retriever's own order stand as a second stage that changes nothing."""
        retrieved = [self.handed_on(seed, depth) for seed in self.seeds]
        return self.with_second_stage(
            retrieved,
            [np.tile(-np.arange(rows.shape[1], dtype=np.float64), (len(rows), 1)) for rows in retrieved],
        )


def sampled_frames(
    system: SystemScores,
    protocol: EvaluationProtocol,
    split: Split,
    sampler: Sampler,
    metrics: Sequence[Metric],
) -> list[pl.DataFrame]:
    """Measure a system among the frozen candidates; one frame of user metrics a seed."""
    data = protocol.splits[split]
    frames = []
    for run in system.runs:
        scores, asked = run.scores[split][sampler], data.candidates[sampler] != NOTHING
        if data.positives is None:
            above, tied = place_target(scores, data.columns[sampler])
            computed = expected_metrics(above, tied, scores.shape[1] - 1, metrics)
        else:
            tied, computed = several_positives(scores, data.positives, asked, metrics)
        given = sampler if sampler in ("file", "impressions") else ""
        told = named(computed, protocol.config.split.label, given)
        frames.append(_frame(protocol, split, tied, told))
    return frames


def catalogue_frames(
    system: SystemScores, protocol: EvaluationProtocol, split: Split, metrics: Sequence[Metric]
) -> list[pl.DataFrame]:
    """Measure a system in the whole catalogue; empty for a system that doesn't rank it."""
    return [
        _frame(
            protocol,
            split,
            run.catalogue[split].ranks.tied,
            catalogue_metrics(run.catalogue[split].ranks, metrics, protocol.config.split.label),
        )
        for run in system.runs
        if split in run.catalogue
    ]


def recommended_frames(
    system: SystemScores, protocol: EvaluationProtocol, split: Split, metrics: Sequence[Metric]
) -> list[pl.DataFrame]:
    """Measure the lists that `recommend` gives; empty for a system that gives none."""
    wanted = [metric for metric in metrics if not isinstance(metric, AUC)]
    lists = [run.catalogue[split].recommended for run in system.runs if split in run.catalogue]
    return [
        _frame(
            protocol,
            split,
            ranks.tied,
            named(
                expected_metrics(ranks.above, ranks.tied, ranks.others, wanted),
                protocol.config.split.label,
                MetricProtocol.RECOMMENDED,
            ),
        )
        for ranks in lists
        if ranks is not None
    ]


def expected_frames(
    system: SystemScores,
    protocol: EvaluationProtocol,
    split: Split,
    negatives: int,
    metrics: Sequence[Metric],
) -> list[pl.DataFrame]:
    """Compute the exact expectation of the figures under uniform negatives, from ranks in the catalogue.

    Where the history stays in the catalogue there is none: negatives are drawn from what lies outside it.
    """
    if protocol.config.split.keeps_history:
        return []
    rows = protocol.config.split.label
    return [
        _frame(
            protocol,
            split,
            run.catalogue[split].ranks.tied,
            sampled_expectation(run.catalogue[split].ranks, negatives, metrics, rows),
        )
        for run in system.runs
        if split in run.catalogue
    ]


def two_stage_frames(
    system: SystemScores, protocol: EvaluationProtocol, metrics: Sequence[Metric]
) -> list[pl.DataFrame]:
    """Measure the order that a system gives to the retrieved items, on the test users."""
    data, rows = protocol.splits[Split.TEST], protocol.config.split.label
    targets = targets_frame(protocol, Split.TEST)
    if data.persons:
        targets = targets.with_columns(pl.Series(PERSON, data.persons))
    return [
        two_stage_metrics(targets, _pairs(protocol, Split.TEST, retrieved, scores), metrics, rows)
        for retrieved, scores in zip(system.retrieved, system.reranked, strict=True)
    ]


def targets_frame(protocol: EvaluationProtocol, split: Split) -> pl.DataFrame:
    """Give `USER`, `SPLIT` and `TARGET` of one split's users."""
    data = protocol.splits[split]
    return pl.DataFrame(
        {
            USER: data.users,
            SPLIT: [split.value] * len(data.users),
            TARGET: protocol.prepared.items[ITEM].gather(data.targets),
        }
    )


def scores_frame(
    protocol: EvaluationProtocol, split: Split, sampler: Sampler, scores: Floats
) -> pl.DataFrame:
    """Give `USER`, `ITEM` and `SCORE` of one sampler's candidates."""
    return _pairs(protocol, split, protocol.splits[split].candidates[sampler], scores)


def _pairs(protocol: EvaluationProtocol, split: Split, items: Places, scores: Floats) -> pl.DataFrame:
    users = pl.Series(USER, protocol.splits[split].users, dtype=pl.String)
    row, column = np.nonzero(items != NOTHING)
    return pl.DataFrame(
        [
            users.gather(row),
            protocol.prepared.items[ITEM].gather(items[row, column]),
            pl.Series(SCORE, scores[row, column]),
        ]
    )


def _frame(
    protocol: EvaluationProtocol,
    split: Split,
    tied: NDArray[np.int64],
    metrics: dict[str, NDArray[np.float64]],
) -> pl.DataFrame:
    data = protocol.splits[split]
    return metrics_frame(data.users, [split.value] * len(data.users), tied, metrics, data.persons)


def evaluate(
    work: Work, protocol: EvaluationProtocol, systems: Sequence[SystemScores]
) -> Artifact[dict[str, Any]]:
    """Measure every system on the validation and the test users, among the run's own candidates."""
    path = work.folder.metrics

    def make(config: Config) -> Made:
        results = {system.name: measure(config, protocol, system) for system in systems}
        write_json(to_json(results, config.candidates), path)
        k = config.evaluation.ks[0]
        for name, by_split in results.items():
            recall = by_split[Split.TEST.value].metrics[f"Recall@{k}"]
            work.say(f"  {name}: test Recall@{k} {recall.mean:.3f} [{recall.low:.3f}, {recall.high:.3f}]")
        return Made([path])

    return work.step(
        "evaluate",
        "compute metrics with intervals",
        make,
        lambda made: json.loads(made.path.read_text(encoding="utf-8")),
        settings=("seed", "evaluation.ks", "evaluation.metrics", "evaluation.bootstrap", "candidates"),
        content=[
            protocol.digest,
            [identity("metric", name, METRICS) for name in work.config.evaluation.metrics],
            [[system.name, *(run.digest for run in system.runs)] for system in systems],
        ],
    )


def measure(config: Config, protocol: EvaluationProtocol, system: SystemScores) -> dict[str, Result]:
    """Measure one system, by the name of the split, among the run's own candidates.

    Where it ranks the whole catalogue, the figures of that are added, under names that say so.
    """
    sampler, evaluation = protocol.samplers[0], config.evaluation
    metrics = metrics_at(evaluation.ks, evaluation.metrics)

    def measured(frames: list[pl.DataFrame]) -> Result:
        return summarise(average_seeds(frames), evaluation.bootstrap, config.seed)

    results = {}
    for split in protocol.splits:
        result = measured(sampled_frames(system, protocol, split, sampler, metrics))
        more = [
            measured(frames).metrics
            for way in (catalogue_frames, recommended_frames)
            if (frames := way(system, protocol, split, metrics))
        ]
        told = {name: value for named in (result.metrics, *more) for name, value in named.items()}
        results[split.value] = replace(result, metrics=told)
    return results
