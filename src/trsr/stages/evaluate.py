"""Scores of all systems become metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import polars as pl

from trsr.artifacts import RunFolder, read_parquet, write_json
from trsr.config import Config
from trsr.data.prepare import load
from trsr.evaluation.scoreboard import evaluate, to_json
from trsr.ranking.tasks import measured
from trsr.records import ITEM, P_YES, SCORE, SYSTEM, USER, Split
from trsr.registry import METRICS, identity
from trsr.stages.stage import Say, Stage

FUSED: Final = "TRSR fused"
"""Name of the fused ranker in tables."""


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
    return {
        "seed": config.seed,
        "ks": config.evaluation.ks,
        "metrics": [identity("metric", name, METRICS) for name in config.evaluation.metrics],
        "bootstrap": config.evaluation.bootstrap,
        "system": system_name(config),
    }


def _systems(config: Config, folder: RunFolder) -> dict[str, pl.DataFrame]:
    """Read the scores of every system by its name in tables, the run's own first."""
    own = read_parquet(folder.require(folder.scores, "evaluate"))
    systems = {system_name(config): own.select(USER, ITEM, pl.col(P_YES).alias(SCORE))}
    if folder.fused.exists():
        systems[FUSED] = read_parquet(folder.fused)
    baselines = read_parquet(folder.require(folder.baselines, "evaluate"))
    named = baselines.group_by(SYSTEM, maintain_order=True)
    return systems | {str(name): frame.drop(SYSTEM) for (name,), frame in named}


def _run(config: Config, folder: RunFolder, say: Say) -> list[Path]:
    candidates = measured(load(folder))
    results = {
        name: evaluate(candidates, frame, config.evaluation, config.seed)
        for name, frame in _systems(config, folder).items()
    }
    write_json(to_json(results, config.candidates), folder.metrics)
    k = config.evaluation.ks[0]
    for name, by_split in results.items():
        recall = by_split[Split.TEST.value].metrics[f"Recall@{k}"]
        say(f"  {name}: test Recall@{k} {recall.mean:.3f} [{recall.low:.3f}, {recall.high:.3f}]")
    return [folder.metrics]


STAGE = Stage(
    name="evaluate",
    purpose="compute metrics with intervals",
    settings=_settings,
    needs=("prepare", "score", "fuse"),
    run=_run,
)
