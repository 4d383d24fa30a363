"""The language model and its companions become one ranker, whose weights validation users decide."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.artifacts import RunFolder, read_parquet, write_parquet
from trsr.baselines.base import TrainingData, candidate_places, places, training_data
from trsr.config import Config
from trsr.config.data import CandidateRule
from trsr.data.candidates import draw_candidates
from trsr.data.prepare import Prepared, load
from trsr.errors import ArtifactError
from trsr.fusion.companions import WEIGHTS, Companions
from trsr.fusion.features import Evidence
from trsr.fusion.fusion import Fusion, cross_fit, fit_fusion, too_few
from trsr.ranking.ranker import Ranker
from trsr.ranking.tasks import score_language_model
from trsr.records import CANDIDATES, HISTORY, ITEM, P_YES, SCORE, SPLIT, TARGET, USER, Split
from trsr.registry import BASELINES, identity
from trsr.stages.stage import Say, Stage


def _settings(config: Config) -> Any:
    names = config.fusion.companions
    if not names:
        return {"companions": []}
    return {
        "companions": [identity("baseline", name, BASELINES) for name in names],
        "seed": config.seed,
        "training_seed": config.training_seed,
        **config.model_dump(mode="json", include={"items", "candidates"}),
    }


def _run(config: Config, folder: RunFolder, say: Say) -> list[Path]:
    # What a run with other settings left behind must not be taken for this run's.
    shutil.rmtree(folder.fusion, ignore_errors=True)
    folder.fused.unlink(missing_ok=True)
    if not config.fusion.companions:
        say("  fusion.companions is empty: no fused ranker")
        return []
    prepared = load(folder)
    valid, test = (_frozen(prepared, split) for split in (Split.VALID, Split.TEST))
    if few := too_few(valid.height):
        say(f"  {few}")
        return []
    data = training_data(prepared, config.items.fields)
    names, seed = config.fusion.companions, config.training_seed
    companions = Companions.fit(names, data, seed)
    scores = read_parquet(folder.require(folder.scores, "evaluate"))
    other = _other_candidates(config, prepared)
    rescored = _score_other(config, folder, prepared, other)
    popular = config.candidates.sampler == "popularity"
    learnt_from = stack(
        gather(companions, prepared, valid, scores, popular),
        gather(companions, prepared, other, rescored, not popular),
    )
    targets = np.concatenate([target_columns(valid), target_columns(other)])
    users = [*valid[USER], *other[USER]]
    fusion = fit_fusion(learnt_from, targets, users)
    honest = cross_fit(learnt_from, targets, users)[: valid.height]
    tested = fusion.score(gather(companions, prepared, test, scores, popular))
    companions.save(folder.fusion)
    fusion.save(folder.fusion / WEIGHTS)
    # Last: later stages take its existence for a fused ranker.
    write_parquet(pl.concat([_pairs(valid, honest), _pairs(test, tested)]), folder.fused)
    _tell(fusion, data, say)
    return [folder.fused, folder.fusion]


def gather(
    companions: Companions,
    prepared: Prepared,
    candidates: pl.DataFrame,
    scores: pl.DataFrame,
    drawn_by_popularity: bool,
) -> Evidence:
    """Gather what all systems say of `candidates`, `USER` and lists of one length, in the order of the frame.

    `scores` holds `USER`, `ITEM` and `P_YES` of at least these candidates. Raises `ArtifactError` when one
    of them has no score.
    """
    ids = prepared.items[ITEM]
    asked = candidates.select(USER, CANDIDATES).join(
        prepared.histories.select(USER, HISTORY), on=USER, how="left", maintain_order="left"
    )
    offered = candidate_places(asked[CANDIDATES], ids)
    pairs = asked.select(USER, pl.col(CANDIDATES).alias(ITEM)).explode(ITEM)
    found = pairs.join(scores.select(USER, ITEM, P_YES), on=[USER, ITEM], how="left", maintain_order="left")
    if found[P_YES].null_count():
        user, item = found.filter(pl.col(P_YES).is_null()).select(USER, ITEM).row(0)
        message = f"scores lack user {user!r}, item {item!r}; run `trsr evaluate` on this run folder again"
        raise ArtifactError(message)
    p_yes = found[P_YES].to_numpy().reshape(offered.shape)
    return companions.evidence(
        asked[USER].to_list(), places(asked[HISTORY], ids), offered, p_yes, drawn_by_popularity
    )


def stack(first: Evidence, second: Evidence) -> Evidence:
    """Put one evidence below the other."""
    return Evidence(
        {name: np.concatenate([table, second.scores[name]]) for name, table in first.scores.items()},
        np.concatenate([first.counts, second.counts]),
        np.concatenate([first.drawn_by_popularity, second.drawn_by_popularity]),
    )


def target_columns(candidates: pl.DataFrame) -> NDArray[np.int64]:
    """Find the place of every user's target among the candidates, ``(n_users,)``."""
    rows = candidates.select(CANDIDATES, TARGET).iter_rows()
    return np.array([offered.index(target) for offered, target in rows], dtype=np.int64)


def _frozen(prepared: Prepared, split: Split) -> pl.DataFrame:
    return prepared.candidates.filter(pl.col(SPLIT) == split.value)


def _other_candidates(config: Config, prepared: Prepared) -> pl.DataFrame:
    """Draw candidates of validation users in the other way, so that the weights suit both."""
    sampler = "popularity" if config.candidates.sampler == "uniform" else "uniform"
    rule = CandidateRule(negatives=config.candidates.negatives, sampler=sampler)
    drawn = draw_candidates(prepared.histories, prepared.items, rule, config.seed, prepared.background)
    return drawn.filter(pl.col(SPLIT) == Split.VALID.value)


def _score_other(
    config: Config, folder: RunFolder, prepared: Prepared, candidates: pl.DataFrame
) -> pl.DataFrame:
    summaries = read_parquet(folder.require(folder.summaries, "summarize"))
    ranker = Ranker.load(folder.require(folder.model, "train"))
    return score_language_model(config, prepared, summaries, ranker, Split.VALID, candidates)


def _pairs(candidates: pl.DataFrame, scores: NDArray[np.float64]) -> pl.DataFrame:
    pairs = candidates.select(USER, pl.col(CANDIDATES).alias(ITEM)).explode(ITEM)
    return pairs.with_columns(pl.Series(SCORE, scores.ravel()))


def _tell(fusion: Fusion, data: TrainingData, say: Say) -> None:
    weights = ", ".join(f"{name} {weight:+.2f}" for name, weight in fusion.weights.items())
    cold = int((data.counts == 0).sum())
    say(f"  learnt from {fusion.users} validation users: {weights}")
    say(f"  {cold:,} items that training never saw are ranked by their texts")


STAGE = Stage(
    name="fuse",
    purpose="train companions, learn on validation users how much each system counts",
    settings=_settings,
    needs=("prepare", "summarize", "train", "score"),
    run=_run,
    optional=True,
)
