"""p(yes) of candidates, by actors of a Ray cluster that keep the ranking model loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from trsr.cluster.ray_tasks import Parcel, Work, map_rows
from trsr.config import Config
from trsr.data.catalogue import Catalogue
from trsr.ranking.examples import RankingUser
from trsr.ranking.ranker import Ranker
from trsr.records import CANDIDATES, HISTORY, P_YES, SUMMARY, USER


def score_on_cluster(config: Config, model: Path, items: pl.DataFrame, users: pl.DataFrame) -> pl.DataFrame:
    """Score every user's candidates on the cluster that `config.cluster` names.

    Parameters
    ----------
    config
        The run's settings.
    model
        Folder of the fine-tuned ranker; its files are sent to the machines, so that they need
        not share a disk. The base model of an adapter is loaded by its own path or name.
    items
        The catalogue.
    users
        `USER`, `SUMMARY`, `HISTORY` and `CANDIDATES`.

    Returns
    -------
    polars.DataFrame
        `USER` and `P_YES`, a list in the order of the candidates; in the order of `users`.

    Raises
    ------
    ConfigError
        When Ray isn't installed.
    RunError
        When the cluster can't be reached or the work fails on it.
    """
    shared: dict[str, Any] = {"config": config, "parcel": Parcel(model), "items": items}
    wanted = users.select(USER, SUMMARY, HISTORY, CANDIDATES)
    return map_rows(wanted, _open, shared, config.cluster)


def _open(config: Config, parcel: Parcel, items: pl.DataFrame) -> Work:
    catalogue = Catalogue(items, config.ranking_fields)
    ranker = Ranker.load(parcel.unpack())

    def work(rows: pl.DataFrame) -> pl.DataFrame:
        tasks = [
            RankingUser(user, summary, catalogue.items(history), catalogue.items(candidates))
            for user, summary, history, candidates in rows.iter_rows()
        ]
        scores = ranker.score(tasks, config.evaluation.batch_tokens) if tasks else []
        p_yes = pl.Series(P_YES, [row.tolist() for row in scores], dtype=pl.List(pl.Float64))
        return pl.DataFrame([rows[USER], p_yes])

    return work
