"""Ranking tasks of a run: each user's summary, history and candidates together."""

from __future__ import annotations

import polars as pl

from trsr.data.catalogue import Catalogue
from trsr.data.prepare import Prepared
from trsr.errors import ArtifactError
from trsr.ranking.scoring import RankingUser
from trsr.records import CANDIDATES, HISTORY, SPLIT, SUMMARY, TARGET, USER, Split


def ranking_tasks(
    prepared: Prepared,
    summaries: pl.DataFrame,
    catalogue: Catalogue,
    split: Split,
    candidates: pl.DataFrame | None = None,
) -> list[RankingUser]:
    """Join what the model is to see of each user of one split, by rising user id.

    `summaries` has `USER` and `SUMMARY`, `candidates` has `USER` and `CANDIDATES`; None for the frozen ones.
    Raises `ArtifactError` when a user has no row among the summaries.
    """
    offered = prepared.candidates if candidates is None else candidates
    users = (
        prepared.histories.filter(pl.col(SPLIT) == split.value)
        .join(offered.select(USER, CANDIDATES), on=USER, how="left")
        .join(summaries.select(USER, SUMMARY), on=USER, how="left")
        .sort(USER)
    )
    lacking = users.filter(pl.col(SUMMARY).is_null() | pl.col(CANDIDATES).is_null())
    if not lacking.is_empty():
        message = (
            f"{lacking.height} users have no summary or no candidates, the first is {lacking[USER][0]!r}; "
            "run `trsr summarize` again"
        )
        raise ArtifactError(message)
    columns = users.select(USER, SUMMARY, HISTORY, CANDIDATES, TARGET).iter_rows()
    return [
        RankingUser(
            user,
            summary,
            catalogue.items(history),
            catalogue.items(candidates),
            candidates.index(target),
        )
        for user, summary, history, candidates, target in columns
    ]
