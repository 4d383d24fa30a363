"""Scores of a baseline, by its name in the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, assert_never

import polars as pl

from trsr.baselines.baseline import Baseline
from trsr.baselines.popularity import Popularity
from trsr.baselines.random import Random
from trsr.baselines.text_similarity import TextSimilarity
from trsr.data.prepare import Prepared
from trsr.records import CANDIDATES, ITEM, SCORE, SPLIT, USER, Split

Name = Literal["random", "popularity", "tfidf"]


def score(
    name: Name,
    prepared: Prepared,
    *,
    seed: int,
    fields: Sequence[str] = (),
    splits: Sequence[Split] = (Split.VALID, Split.TEST),
) -> pl.DataFrame:
    """Score the frozen candidates of some splits.

    Parameters
    ----------
    name
        Which baseline.
    prepared
        The run's data.
    seed
        The run's seed.
    fields
        Text fields for baselines that read texts; empty for all.
    splits
        Whose candidates to score.

    Returns
    -------
    polars.DataFrame
        `USER`, `ITEM` and `SCORE`.

    Examples
    --------
    >>> from trsr.config import Config
    >>> from trsr.config.data import DemoData
    >>> from trsr.data.prepare import prepare
    >>> prepared = prepare(Config(data=DemoData(users=100, items=100)))
    >>> score("popularity", prepared, seed=0).columns
    ['user_id', 'item_id', 'score']
    """
    wanted = prepared.candidates.filter(pl.col(SPLIT).is_in([split.value for split in splits]))
    pairs = wanted.select(USER, pl.col(CANDIDATES).alias(ITEM)).explode(ITEM)
    scores = _open(name, seed, fields).score(prepared.items, prepared.histories, pairs)
    return pairs.with_columns(pl.Series(SCORE, scores, dtype=pl.Float64))


def _open(name: Name, seed: int, fields: Sequence[str]) -> Baseline:
    match name:
        case "random":
            return Random(seed)
        case "popularity":
            return Popularity()
        case "tfidf":
            return TextSimilarity(fields)
        case _:
            assert_never(name)
