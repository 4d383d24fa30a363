"""The fine-tuned model and the baselines score the frozen candidates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from trsr.artifacts import RunFolder, read_parquet, write_parquet
from trsr.baselines.base import training_data
from trsr.baselines.registry import open_baseline, score_candidates
from trsr.config import Config
from trsr.data.prepare import Prepared, load
from trsr.ranking.ranker import Ranker
from trsr.ranking.tasks import MEASURED, measured, score_language_model
from trsr.records import CANDIDATES, ITEM, P_YES, SCORE, SPLIT, SUMMARY, SYSTEM, USER, Split
from trsr.registry import BASELINES, identity
from trsr.stages.stage import Say, Stage


def _settings(config: Config) -> Any:
    names = config.evaluation.baselines
    return {
        "items": config.model_dump(mode="json", include={"items"}),
        "baselines": [identity("baseline", name, BASELINES) for name in names],
        "seed": config.training_seed if names else None,
    }


def _run(config: Config, folder: RunFolder, say: Say) -> list[Path]:
    prepared = load(folder)
    summaries = read_parquet(folder.require(folder.summaries, "summarize"))
    # First of all: a baseline that can't be had is told before the long work.
    opened = {name: open_baseline(name, config.training_seed) for name in config.evaluation.baselines}
    folder.require(folder.model, "train")
    if config.cluster.kind == "ray":
        scores = [_score_on_cluster(config, folder, prepared, summaries, split) for split in MEASURED]
    else:
        ranker = Ranker.load(folder.model)
        scores = [score_language_model(config, prepared, summaries, ranker, split) for split in MEASURED]
    write_parquet(pl.concat(scores), folder.scores)
    data = training_data(prepared, config.items.fields)
    schema = {SYSTEM: pl.String, USER: pl.String, ITEM: pl.String, SCORE: pl.Float64}
    named = [pl.DataFrame(schema=schema)]
    for name, baseline in opened.items():
        baseline.fit(data)
        table = score_candidates(baseline, prepared, measured(prepared))
        named.append(table.select(pl.lit(name).alias(SYSTEM), USER, ITEM, SCORE))
    write_parquet(pl.concat(named), folder.baselines)
    return [folder.scores, folder.baselines]


def _score_on_cluster(
    config: Config, folder: RunFolder, prepared: Prepared, summaries: pl.DataFrame, split: Split
) -> pl.DataFrame:
    from trsr.cluster.ray import score_on_cluster  # noqa: PLC0415  an optional extra

    users = (
        prepared.histories.filter(pl.col(SPLIT) == split.value)
        .join(prepared.candidates.select(USER, CANDIDATES), on=USER)
        .join(summaries.select(USER, SUMMARY), on=USER)
        .sort(USER)
    )
    scored = score_on_cluster(config, folder.model, prepared.items, users)
    pairs = users.select(USER, SPLIT, pl.col(CANDIDATES).alias(ITEM)).with_columns(scored[P_YES])
    return pairs.explode(ITEM, P_YES)


STAGE = Stage(
    name="score",
    purpose="score the frozen candidates",
    settings=_settings,
    needs=("prepare", "summarize", "train"),
    run=_run,
)
