"""The fine-tuned model and the floor score the frozen candidates; scores become metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from trsr.artifacts import RunFolder, read_parquet, write_json, write_parquet
from trsr.baselines.score import score as score_baseline
from trsr.config import Config
from trsr.data.catalogue import Catalogue
from trsr.data.prepare import Prepared, load
from trsr.evaluation.scoreboard import evaluate, to_json
from trsr.ranking.ranker import Ranker
from trsr.records import ITEM, P_YES, SCORE, SPLIT, SYSTEM, USER, Split
from trsr.stages.stage import Say, Stage
from trsr.stages.tasks import ranking_tasks

MEASURED = (Split.VALID, Split.TEST)
"""Splits that are scored; nothing is chosen on the test split."""


def system_name(config: Config) -> str:
    """Name the language model's system in tables: the paradigm and the model that ranked.

    Examples
    --------
    >>> system_name(Config())
    'TRSR recurrent (compact)'
    """
    model = config.model
    ranked_by = "compact" if model.kind == "compact" else Path(model.path).name
    paradigm = "without summary" if config.summary.paradigm == "none" else config.summary.paradigm
    return f"TRSR {paradigm} ({ranked_by})"


def _settings(config: Config) -> Any:
    settings = config.model_dump(mode="json", include={"seed", "items", "candidates", "evaluation"})
    settings["evaluation"].pop("report_users")
    return settings


def _score_candidates(
    config: Config, prepared: Prepared, summaries: pl.DataFrame, ranker: Ranker
) -> pl.DataFrame:
    catalogue = Catalogue(prepared.items, config.ranking_fields)
    frames = []
    for split in MEASURED:
        tasks = ranking_tasks(prepared, summaries, catalogue, split)
        scores = ranker.score(tasks, config.evaluation.batch_tokens, title=f"scoring {split}")
        frames += [
            pl.DataFrame(
                {
                    USER: [task.user_id] * len(p_yes),
                    SPLIT: [split.value] * len(p_yes),
                    ITEM: [item.id for item in task.candidates],
                    P_YES: p_yes,
                }
            )
            for task, p_yes in zip(tasks, scores, strict=True)
        ]
    return pl.concat(frames)


def _run(config: Config, folder: RunFolder, say: Say) -> list[Path]:
    prepared = load(folder)
    summaries = read_parquet(folder.require(folder.summaries, "summarize"))
    ranker = Ranker.load(folder.require(folder.model, "train"))
    scores = _score_candidates(config, prepared, summaries, ranker)
    write_parquet(scores, folder.scores)
    floor = {
        name: score_baseline(name, prepared, seed=config.seed, fields=config.items.fields, splits=MEASURED)
        for name in config.evaluation.baselines
    }
    empty = pl.DataFrame(schema={SYSTEM: pl.String, USER: pl.String, ITEM: pl.String, SCORE: pl.Float64})
    named = [frame.select(pl.lit(name).alias(SYSTEM), USER, ITEM, SCORE) for name, frame in floor.items()]
    write_parquet(pl.concat([empty, *named]), folder.baselines)
    measured = prepared.candidates.filter(pl.col(SPLIT).is_in([split.value for split in MEASURED]))
    own = scores.select(USER, ITEM, pl.col(P_YES).alias(SCORE))
    systems = {system_name(config): own} | {str(name): frame for name, frame in floor.items()}
    results = {
        name: evaluate(measured, frame, config.evaluation, config.seed) for name, frame in systems.items()
    }
    write_json(to_json(results, config.candidates), folder.metrics)
    k = config.evaluation.ks[0]
    for name, by_split in results.items():
        recall = by_split[Split.TEST.value].metrics[f"Recall@{k}"]
        say(f"  {name}: test Recall@{k} {recall.mean:.3f} [{recall.low:.3f}, {recall.high:.3f}]")
    return [folder.scores, folder.baselines, folder.metrics]


STAGE = Stage(
    name="evaluate",
    purpose="score the frozen candidates, compute metrics with intervals",
    settings=_settings,
    needs=("prepare", "summarize", "train"),
    run=_run,
)
