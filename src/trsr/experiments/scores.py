"""What one system answered with each seed, and where answers are kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.artifacts import hash_path, read_parquet, write_json, write_parquet
from trsr.config.evaluation import Sampler
from trsr.evaluation.catalogue import (
    CatalogueRanks,
    catalogue_metrics,
    sampled_expectation,
    two_stage_metrics,
)
from trsr.evaluation.metrics import AUC, expected_auc, expected_metrics, metrics_frame, place_target
from trsr.experiments.protocol import MEASURED, Contest, Panel, Places
from trsr.records import ITEM, SCORE, SPLIT, TARGET, USER, Split
from trsr.report.results import Kind

Floats = NDArray[np.float64]

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
class Scored:
    """One system's answers with one seed.

    Parameters
    ----------
    scores
        Split to sampler to scores of the frozen candidates, ``(n_users, n_candidates)``. The fused ranker
        has learnt from the validation users, so that it has none of theirs; an outside system has
        what was imported.
    catalogue
        Split to places in the whole catalogue; empty for a system that can't rank it.
    """

    scores: Mapping[Split, Mapping[Sampler, Floats]]
    catalogue: Mapping[Split, InCatalogue]
    card: Card


def to_frame(scored: Scored, contest: Contest) -> pl.DataFrame:
    """Put the answers into a table: a list of scores per sampler, and places in the catalogue."""
    return pl.concat([_split_frame(scored, contest.panels[split], split) for split in MEASURED])


def from_frame(frame: pl.DataFrame, card: Card, contest: Contest) -> Scored:
    """Read what `to_frame` made."""
    scores: dict[Split, dict[Sampler, Floats]] = {}
    catalogue: dict[Split, InCatalogue] = {}
    for split in MEASURED:
        rows = frame.filter(pl.col(SPLIT) == split.value)
        scores[split] = {sampler: table(rows[sampler]).astype(np.float64) for sampler in contest.samplers}
        if _ABOVE in rows.columns:
            ranks = CatalogueRanks(*(rows[name].to_numpy() for name in (_ABOVE, _TIED, _OTHERS)))
            catalogue[split] = InCatalogue(ranks, table(rows[_RETRIEVED]).astype(np.int32))
    return Scored(scores, catalogue, card)


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


def _split_frame(scored: Scored, panel: Panel, split: Split) -> pl.DataFrame:
    columns = {sampler: lists(scores) for sampler, scores in scored.scores[split].items()}
    frame = pl.DataFrame({USER: panel.users, SPLIT: [split.value] * len(panel.users)} | columns)
    if split not in scored.catalogue:
        return frame
    places = scored.catalogue[split]
    return frame.with_columns(
        pl.Series(_ABOVE, places.ranks.above),
        pl.Series(_TIED, places.ranks.tied),
        pl.Series(_OTHERS, places.ranks.others),
        lists(places.retrieved).alias(_RETRIEVED),
    )


@dataclass(frozen=True, slots=True)
class Card:
    """How answers came about.

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


class Shelf:
    """A folder of tables, each with a card that is written last and makes it complete.

    The folder is made when first written to.

    Examples
    --------
    >>> import tempfile
    >>> shelf = Shelf(Path(tempfile.mkdtemp()))
    >>> shelf.put("random/seed-0", "abc", pl.DataFrame({"user_id": ["u"]}), Card(scoring_seconds=0.5))
    >>> found = shelf.find("random/seed-0", "abc")
    >>> found is not None and found[1].scoring_seconds
    0.5
    >>> shelf.find("random/seed-0", "another fingerprint") is None
    True
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def find(self, name: str, fingerprint: str) -> tuple[pl.DataFrame, Card] | None:
        """Return a table and its card, or None when it isn't complete for this fingerprint."""
        table, card = self._paths(name)
        try:
            told = json.loads(card.read_text(encoding="utf-8"))
            if told.pop("fingerprint") != fingerprint or hash_path(table) != told.pop("table"):
                return None
            return read_parquet(table), Card(**told)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            # Whatever is not what `put` wrote is made again, at the price of its time only.
            return None

    def put(self, name: str, fingerprint: str, table: pl.DataFrame, card: Card) -> None:
        """Write a table, then its card."""
        path, card_path = self._paths(name)
        card_path.unlink(missing_ok=True)
        write_parquet(table, path)
        write_json({"fingerprint": fingerprint, "table": hash_path(path)} | asdict(card), card_path)

    def _paths(self, name: str) -> tuple[Path, Path]:
        return self.path / f"{name}.parquet", self.path / f"{name}.json"


@dataclass(frozen=True, slots=True)
class Entry:
    """One system.

    Parameters
    ----------
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
