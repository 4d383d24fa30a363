"""Ranking tasks: each user's summary, history and candidates together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.data.catalogue import Catalogue
from trsr.data.prepare import Prepared
from trsr.errors import ArtifactError, DataError
from trsr.ranking.ranker import Ranker
from trsr.ranking.scoring import RankingUser
from trsr.records import CANDIDATES, HISTORY, SPLIT, SUMMARY, TARGET, USER, Split

Places = NDArray[np.int32]


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


def score_lists(
    ranker: Ranker,
    catalogue: Catalogue,
    summaries: Mapping[str, str] | None,
    users: Sequence[str],
    histories: Sequence[Places],
    offered: Sequence[Places],
    *,
    batch_tokens: int = 16384,
    title: str | None = None,
) -> list[NDArray[np.float64]]:
    """Return p(yes) of lists of candidates, which may have any lengths and repeat items.

    Parameters
    ----------
    summaries
        What the model is told of each user; None: of nobody anything.
    histories, offered
        Places in the catalogue, one array a user.
    batch_tokens, title
        See `Ranker.score`.

    Raises
    ------
    DataError
        When a user has no summary and others have.
    """
    if summaries is not None and (lacking := [user for user in users if user not in summaries]):
        message = f"{len(lacking)} users have no summary, the first is {lacking[0]!r}; summarise them first"
        raise DataError(message)
    items = catalogue.items(catalogue.ids)
    distinct = [np.unique(row) for row in offered]
    tasks = [
        RankingUser(
            user,
            "" if summaries is None else summaries[user],
            tuple(items[place] for place in history),
            tuple(items[place] for place in row),
        )
        for user, history, row in zip(users, histories, distinct, strict=True)
    ]
    scores = ranker.score(tasks, batch_tokens, title=title)
    return [
        p_yes[np.searchsorted(asked, row)]
        for p_yes, asked, row in zip(scores, distinct, offered, strict=True)
    ]
