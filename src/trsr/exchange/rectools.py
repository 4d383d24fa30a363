"""Tables in RecTools' columns: interactions, candidates, recommendations.

Parquet, so that an id such as ``007`` stays a text. RecTools orders a user's
interactions by ``datetime``; a prepared run keeps the order and not the times, so that
datetimes here are seconds of 1970 by position and mean nothing across users.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from trsr.artifacts import write_parquet
from trsr.data.negatives import SAMPLER
from trsr.exchange.frozen import Frozen
from trsr.exchange.trec import ranked_pairs
from trsr.records import HISTORY, ITEM, ITEMS, SCORE, SPLIT, TARGET, USER, Split


def write_rectools(frozen: Frozen, systems: Mapping[str, pl.DataFrame], out: Path) -> tuple[Path, ...]:
    """Write what RecTools trains on, ranks, and measures.

    Parameters
    ----------
    frozen
        The run.
    systems
        Name to `USER`, `ITEM` and `SCORE`.
    out
        The folder.

    Returns
    -------
    tuple[pathlib.Path, ...]
        ``interactions`` (of training and background users), ``context`` (what measured users took before
        their targets), ``targets_valid`` and ``targets_test``, ``items``, ``candidates``, and one
        ``reco_SYSTEM_SAMPLER`` per system that has scored all pairs of a sampler.
    """
    histories, background = frozen.prepared.histories, frozen.prepared.background
    trains = pl.col(SPLIT) == Split.TRAIN.value
    whole = pl.concat_list(HISTORY, TARGET).alias(ITEMS)
    told = pl.concat([histories.filter(trains).select(USER, whole), background.select(USER, ITEMS)])
    tables = {
        "interactions": _interactions(told),
        "context": _interactions(histories.filter(~trains).select(USER, pl.col(HISTORY).alias(ITEMS))),
    }
    for split in (Split.VALID, Split.TEST):
        measured = histories.filter(pl.col(SPLIT) == split.value).select(USER, whole)
        tables[f"targets_{split}"] = _interactions(measured).group_by(USER, maintain_order=True).last()
    tables["items"] = frozen.prepared.items
    tables["candidates"] = pl.concat(
        [
            frozen.pairs(sampler).select(USER, ITEM, SPLIT, pl.lit(sampler).alias(SAMPLER))
            for sampler in frozen.candidates
        ]
    )
    for name, scores in systems.items():
        for sampler in frozen.candidates:
            ranked = ranked_pairs(frozen, sampler, scores)
            if ranked is not None:
                tables[f"reco_{name}_{sampler}"] = ranked.select(USER, ITEM, SCORE, "rank")
    paths = []
    for name, table in tables.items():
        paths.append(out / f"{name}.parquet")
        write_parquet(table, paths[-1])
    return tuple(paths)


def _interactions(users: pl.DataFrame) -> pl.DataFrame:
    """One row an interaction: `USER`, `ITEM`, ``weight`` and ``datetime``."""
    flat = users.explode(ITEMS).rename({ITEMS: ITEM})
    place = pl.int_range(pl.len()).over(USER)
    return flat.select(
        USER,
        ITEM,
        pl.lit(1.0).alias("weight"),
        (place * 1_000_000).cast(pl.Datetime("us")).alias("datetime"),
    )
