"""Prompts with known answers become a fine-tuned model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from trsr.artifacts import RunFolder, read_parquet, write_json
from trsr.config import Config
from trsr.data.catalogue import Catalogue
from trsr.data.prepare import load
from trsr.prompts.templates import RANKING_TEMPLATES, Templates
from trsr.ranking.fresh import fresh_ranker
from trsr.ranking.training import fine_tune
from trsr.records import Split
from trsr.stages.stage import Say, Stage
from trsr.stages.tasks import ranking_tasks

LOG: Final = "training_log.json"
"""File in the model folder: ``pretraining`` and ``fine_tuning``, the losses as they were logged."""


def _settings(config: Config) -> Any:
    settings = config.model_dump(mode="json", include={"seed", "items", "prompt", "model", "training"})
    templates = Templates(config.prompt.domain, config.prompt.templates)
    return settings | {
        "batch_tokens": config.evaluation.batch_tokens,
        "templates": templates.versions(RANKING_TEMPLATES),
    }


def _run(config: Config, folder: RunFolder, say: Say) -> list[Path]:
    prepared = load(folder)
    summaries = read_parquet(folder.require(folder.summaries, "summarize"))
    catalogue = Catalogue(prepared.items, config.ranking_fields)
    train, valid = (
        ranking_tasks(prepared, summaries, catalogue, split) for split in (Split.TRAIN, Split.VALID)
    )
    histories = [(*task.history, task.candidates[task.target or 0]) for task in train]
    items = catalogue.items(catalogue.ids)
    written = [task.summary for task in train]
    scratch = folder.checkpoints / "pretraining"
    ranker, pretraining = fresh_ranker(config, items, histories, scratch, summaries=written)
    log = fine_tune(
        ranker,
        train,
        valid,
        config.training,
        folder.checkpoints / "fine_tuning",
        config.training_seed,
        config.evaluation.batch_tokens,
    )
    say(f"  prompts: {ranker.plan.reason}")
    ranker.save(folder.model)
    write_json({"pretraining": pretraining, "fine_tuning": log}, folder.model / LOG)
    sums = [entry["valid_recall_sum"] for entry in log if "valid_recall_sum" in entry]
    if sums:
        best = max(range(len(sums)), key=sums.__getitem__)
        say(f"  best epoch {best + 1} of {len(sums)}: validation Recall@3+5+10 {sums[best]:.3f}")
    return [folder.model]


STAGE = Stage(
    name="train",
    purpose="fine-tune the ranking model on answers yes or no",
    settings=_settings,
    needs=("prepare", "summarize"),
    run=_run,
    scratch=lambda folder: (folder.checkpoints,),
)
