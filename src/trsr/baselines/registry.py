"""Baselines by their names in the configuration, and their scores of many users."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.baselines.base import Baseline, Places, candidate_places, places
from trsr.baselines.simple import ItemNeighbours, Popularity, Random
from trsr.baselines.text import Bm25, Embeddings, TextSimilarity
from trsr.config.evaluation import BaselineName
from trsr.errors import ConfigError
from trsr.records import CANDIDATES, HISTORY, ITEM, SCORE, USER

if TYPE_CHECKING:
    from trsr.data.prepare import Prepared

SEQUENTIAL: Final[frozenset[BaselineName]] = frozenset(
    ("ncf", "din", "caser", "gru4rec", "sasrec", "bert4rec", "sasrec_text")
)
"""Neural systems; these are trained with torch and can be saved."""

_USERS_A_BATCH: Final = 4096
_CELLS_A_BATCH: Final = 16_000_000


def open_baseline(name: BaselineName, seed: int, embedding_model: str | None = None) -> Baseline:
    """Make an untrained baseline; the seed is that of what it draws or trains.

    `embedding_model` is a folder or hub id for `embeddings`; the others don't need it. Raises `ConfigError`
    when there is no baseline of that name, or `embeddings` has no model.

    Examples
    --------
    >>> type(open_baseline("tfidf", seed=0)).__name__
    'TextSimilarity'
    """
    if name in SEQUENTIAL:
        # torch is loaded only when a neural system is asked for.
        opened: Baseline = importlib.import_module("trsr.baselines.neural").open_sequential(name, seed)
        return opened
    match name:
        case "random":
            return Random(seed)
        case "popularity":
            return Popularity()
        case "itemknn":
            return ItemNeighbours()
        case "tfidf":
            return TextSimilarity()
        case "bm25":
            return Bm25()
        case "embeddings":
            return Embeddings(embedding_model)
    message = f"there is no baseline {name!r}; take one of {', '.join(get_args(BaselineName))}"
    raise ConfigError(message)


def score_candidates(baseline: Baseline, prepared: Prepared, candidates: pl.DataFrame) -> pl.DataFrame:
    """Score any candidates of users of the run with a trained baseline.

    `candidates` has `USER` and `CANDIDATES`, lists of one length. Returns `USER`, `ITEM` and `SCORE`, in the
    order of `candidates`.

    Examples
    --------
    >>> from trsr.baselines.base import training_data
    >>> from trsr.config import Config
    >>> from trsr.config.data import DemoData
    >>> from trsr.data.prepare import prepare
    >>> prepared = prepare(Config(data=DemoData(users=100, items=100)))
    >>> popularity = open_baseline("popularity", seed=0)
    >>> popularity.fit(training_data(prepared))
    >>> score_candidates(popularity, prepared, prepared.candidates.head(2)).shape
    (42, 3)
    """
    ids = prepared.items[ITEM]
    asked = candidates.select(USER, CANDIDATES).join(
        prepared.histories.select(USER, HISTORY), on=USER, how="left", maintain_order="left"
    )
    histories = places(asked[HISTORY], ids)
    scores = score_places(
        baseline, asked[USER].to_list(), histories, candidate_places(asked[CANDIDATES], ids)
    )
    pairs = asked.select(USER, pl.col(CANDIDATES).alias(ITEM)).explode(ITEM)
    return pairs.with_columns(pl.Series(SCORE, scores.ravel(), dtype=pl.Float64))


def score_places(
    baseline: Baseline, users: Sequence[str], histories: Sequence[Places], candidates: Places
) -> NDArray[np.float64]:
    """Score candidates given as places in the catalogue, ``(n_users, n_candidates)``, in batches of users."""
    scores = np.empty(candidates.shape)
    for start in range(0, len(users), _USERS_A_BATCH):
        part = slice(start, start + _USERS_A_BATCH)
        scores[part] = baseline.score(users[part], histories[part], candidates[part])
    return scores


def score_catalogue(
    baseline: Baseline, users: Sequence[str], histories: Sequence[Places], n_items: int
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Score every item of the catalogue, in batches of users that fit into memory.

    Yields which of the users, and their scores, ``(n_users_of_the_batch, n_items)``; 128 MB at most, or one
    user.
    """
    size = max(1, _CELLS_A_BATCH // max(1, n_items))
    for start in range(0, len(users), size):
        part = slice(start, min(start + size, len(users)))
        yield part, baseline.score(users[part], histories[part])
