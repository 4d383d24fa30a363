"""Preference summaries, written by actors of a Ray cluster into one store."""

from __future__ import annotations

import weakref

import polars as pl

from trsr.cluster.ray_tasks import Work, map_rows
from trsr.config import Config
from trsr.data.catalogue import Catalogue
from trsr.records import HISTORY, ITEM, USER
from trsr.summarize.summarizer import Summarizer
from trsr.summarize.table import to_frame


def summarize_on_cluster(config: Config, items: pl.DataFrame, histories: pl.DataFrame) -> pl.DataFrame:
    """Write every user's summary on the cluster that `config.cluster` names.

    Actors share the store of answers, `config.store_url`: a path that all machines see,
    or a PostgreSQL database. What was answered before a machine was lost is not asked
    for again.

    Parameters
    ----------
    config
        The run's settings.
    items
        The catalogue.
    histories
        `USER` and `HISTORY`.

    Returns
    -------
    polars.DataFrame
        The summaries table, in the order of `histories`; see `trsr.summarize.table`.

    Raises
    ------
    ConfigError
        When Ray isn't installed.
    RunError
        When the cluster can't be reached or the work fails on it.
    """
    # Actors may stand in other folders: a relative store would be another store.
    located = config.model_copy(
        update={"summary": config.summary.model_copy(update={"store": config.store_url})}
    )
    shared = {"config": located, "items": items}
    return map_rows(histories.select(USER, HISTORY), _open, shared, config.cluster)


def _open(config: Config, items: pl.DataFrame) -> Work:
    catalogue = Catalogue(items, config.items.fields)
    summarizer = Summarizer(config, items.select(ITEM, *catalogue.fields))

    def work(rows: pl.DataFrame) -> pl.DataFrame:
        users = zip(rows[USER], rows[HISTORY], strict=True)
        return to_frame(
            summarizer.summarize(((user, catalogue.items(taken)) for user, taken in users), progress=False)
        )

    # The work lasts as long as its actor, which tells nobody that it ends.
    weakref.finalize(work, summarizer.close)
    return work
