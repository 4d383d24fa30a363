"""The fine-tuned model and the baselines score the frozen candidates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from trsr.artifacts import RunFolder, read_parquet, write_parquet
from trsr.baselines.score import open_baseline, score_candidates
from trsr.baselines.training_data import training_data
from trsr.config import Config
from trsr.data.prepare import load
from trsr.ranking.ranker import Ranker
from trsr.records import ITEM, SCORE, SYSTEM, USER
from trsr.stages.stage import Say, Stage
from trsr.stages.tasks import MEASURED, measured, score_language_model


def _settings(config: Config) -> Any:
    names = config.evaluation.baselines
    return {
        "items": config.model_dump(mode="json", include={"items"}),
        "baselines": names,
        "seed": config.training_seed if names else None,
        "embedding_model": config.comparison.embedding_model if "embeddings" in names else None,
    }


def _run(config: Config, folder: RunFolder, say: Say) -> list[Path]:
    prepared = load(folder)
    summaries = read_parquet(folder.require(folder.summaries, "summarize"))
    # First of all: a baseline that can't be had is told before the long work.
    opened = {
        name: open_baseline(name, config.training_seed, config.comparison.embedding_model)
        for name in config.evaluation.baselines
    }
    ranker = Ranker.load(folder.require(folder.model, "train"))
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


STAGE = Stage(
    name="score",
    purpose="score the frozen candidates",
    settings=_settings,
    needs=("prepare", "summarize", "train"),
    run=_run,
)
