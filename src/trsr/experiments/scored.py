"""What one system answered with one seed, about frozen candidates and about the whole catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.config.experiments import Sampler
from trsr.evaluation.catalogue import CatalogueRanks
from trsr.experiments.contest import MEASURED, Contest, Panel, Places
from trsr.experiments.shelf import Card
from trsr.records import SPLIT, USER, Split

Floats = NDArray[np.float64]

_ABOVE: Final = "above"
_TIED: Final = "tied"
_OTHERS: Final = "others"
_RETRIEVED: Final = "retrieved"


@dataclass(frozen=True, slots=True)
class InCatalogue:
    """Where each user's target stands in the whole catalogue, and what stands first.

    Parameters
    ----------
    ranks
        Places of the targets.
    retrieved
        The best items outside the history, best first, ``(n_users, depth)``.
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
    card
        How they came about.
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
