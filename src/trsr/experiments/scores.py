"""What one system answered with each seed, the table that it is kept in, and its measures user by user."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.artifacts import read_parquet, write_parquet
from trsr.config import Config
from trsr.config.evaluation import Sampler
from trsr.evaluation.catalogue import (
    CatalogueRanks,
    catalogue_metrics,
    sampled_expectation,
    two_stage_metrics,
)
from trsr.evaluation.metrics import Metric, expected_metrics, metrics_frame, place_target
from trsr.experiments.protocol import EvaluationProtocol, Places
from trsr.records import ITEM, MEASURED, SCORE, SPLIT, TARGET, USER, Split
from trsr.report.comparison.results import Kind
from trsr.stages.work import Artifact, Made, Work

Floats = NDArray[np.float64]

SAMPLER: Final = "sampler"
_CATALOGUE: Final = ".catalogue"
_ABOVE: Final = "above"
_TIED: Final = "tied"
_OTHERS: Final = "others"
_RETRIEVED: Final = "retrieved"


@dataclass(frozen=True, slots=True)
class InCatalogue:
    """Where each user's target stands in the whole catalogue, and what stands first.

    `retrieved` are the best items outside the history, best first, ``(n_users, depth)``.
    """

    ranks: CatalogueRanks
    retrieved: Places


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
    in_catalogue = path.with_suffix(f"{_CATALOGUE}.parquet")

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
        ranked = [path for path in tables if path.stem.endswith(_CATALOGUE)]
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
        shape = protocol.splits[of_split].candidates[sampler].shape
        scores.setdefault(of_split, {})[sampler] = rows[SCORE].to_numpy().reshape(shape)
    return scores


def _catalogue_frame(scored: SeedScores, protocol: EvaluationProtocol) -> pl.DataFrame:
    return pl.concat(
        [
            pl.DataFrame(
                {
                    USER: protocol.splits[split].users,
                    SPLIT: [split.value] * len(protocol.splits[split].users),
                    _ABOVE: found.ranks.above,
                    _TIED: found.ranks.tied,
                    _OTHERS: found.ranks.others,
                    _RETRIEVED: lists(found.retrieved),
                }
            )
            for split, found in scored.catalogue.items()
        ]
    )


def _catalogue(frame: pl.DataFrame) -> dict[Split, InCatalogue]:
    found = {}
    for (split,), rows in frame.group_by(SPLIT, maintain_order=True):
        ranks = CatalogueRanks(*(rows[name].to_numpy() for name in (_ABOVE, _TIED, _OTHERS)))
        found[Split(str(split))] = InCatalogue(ranks, table(rows[_RETRIEVED]).astype(np.int32))
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
    summaries
        What a language model was told of each user at the first seed; empty for any other.
    """

    name: str
    kind: Kind
    seeds: tuple[int, ...]
    runs: tuple[SeedScores, ...]
    retrieved: tuple[Places, ...] = ()
    reranked: tuple[Floats, ...] = ()
    summaries: Mapping[str, str] = field(default_factory=dict)

    def at(self, seed: int) -> SeedScores:
        """Return the scores of one seed; a system without chance gives the same to every seed."""
        return self.runs[self.seeds.index(seed)] if seed in self.seeds else self.runs[0]

    def with_second_stage(self, retrieved: Sequence[Places], reranked: Sequence[Floats]) -> SystemScores:
        """Add the scores of the two-stage ranking."""
        return replace(self, retrieved=tuple(retrieved), reranked=tuple(reranked))

    def as_retrieved(self) -> SystemScores:
        """Let a retriever's own order stand as a second stage that changes nothing."""
        retrieved = [run.catalogue[Split.TEST].retrieved for run in self.runs]
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
        scores = run.scores[split][sampler]
        above, tied = place_target(scores, data.columns[sampler])
        computed = expected_metrics(above, tied, scores.shape[1] - 1, metrics)
        frames.append(metrics_frame(data.users, [split.value] * len(data.users), tied, computed))
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
            catalogue_metrics(run.catalogue[split].ranks, metrics),
        )
        for run in system.runs
        if split in run.catalogue
    ]


def expected_frames(
    system: SystemScores,
    protocol: EvaluationProtocol,
    split: Split,
    negatives: int,
    metrics: Sequence[Metric],
) -> list[pl.DataFrame]:
    """Compute the exact expectation of the figures under uniform negatives, from ranks in the catalogue."""
    return [
        _frame(
            protocol,
            split,
            run.catalogue[split].ranks.tied,
            sampled_expectation(run.catalogue[split].ranks, negatives, metrics),
        )
        for run in system.runs
        if split in run.catalogue
    ]


def two_stage_frames(
    system: SystemScores, protocol: EvaluationProtocol, metrics: Sequence[Metric]
) -> list[pl.DataFrame]:
    """Measure the order that a system gives to the retrieved items, on the test users."""
    targets = targets_frame(protocol, Split.TEST)
    return [
        two_stage_metrics(targets, _pairs(protocol, Split.TEST, retrieved, scores), metrics)
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
    return pl.DataFrame(
        [
            users.gather(np.repeat(np.arange(len(users)), items.shape[1])),
            protocol.prepared.items[ITEM].gather(items.ravel()),
            pl.Series(SCORE, scores.ravel()),
        ]
    )


def _frame(
    protocol: EvaluationProtocol,
    split: Split,
    tied: NDArray[np.int64],
    metrics: dict[str, NDArray[np.float64]],
) -> pl.DataFrame:
    users = protocol.splits[split].users
    return metrics_frame(users, [split.value] * len(users), tied, metrics)
