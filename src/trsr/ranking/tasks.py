"""Ranking tasks of a run: each user's summary, history and candidates together, and their scores."""

from __future__ import annotations

import polars as pl

from trsr.config import Config
from trsr.data.catalogue import Catalogue
from trsr.data.prepare import Prepared
from trsr.errors import ArtifactError
from trsr.ranking.ranker import Ranker
from trsr.ranking.scoring import RankingUser
from trsr.records import CANDIDATES, HISTORY, ITEM, P_YES, SPLIT, SUMMARY, TARGET, USER, Split

MEASURED = (Split.VALID, Split.TEST)
"""Splits that are scored; nothing is chosen on the test split."""


def measured(prepared: Prepared) -> pl.DataFrame:
    """Return the frozen candidates of the splits that are scored."""
    return prepared.candidates.filter(pl.col(SPLIT).is_in([split.value for split in MEASURED]))


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


def score_language_model(
    config: Config,
    prepared: Prepared,
    summaries: pl.DataFrame,
    ranker: Ranker,
    split: Split,
    candidates: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Score candidates of one split's users with the language model; see `ranking_tasks`.

    The configuration says which fields the model reads, and how many tokens a batch has. Returns `USER`,
    `SPLIT`, `ITEM` and `P_YES`, by rising user id.
    """
    catalogue = Catalogue(prepared.items, config.ranking_fields)
    tasks = ranking_tasks(prepared, summaries, catalogue, split, candidates)
    scores = ranker.score(tasks, config.evaluation.batch_tokens, title=f"scoring {split}")
    pairs = (
        (task.user_id, split.value, item.id, float(p))
        for task, p_yes in zip(tasks, scores, strict=True)
        for item, p in zip(task.candidates, p_yes, strict=True)
    )
    schema = {USER: pl.String, SPLIT: pl.String, ITEM: pl.String, P_YES: pl.Float64}
    return pl.DataFrame(list(pairs), schema=schema, orient="row")
