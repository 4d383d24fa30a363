"""Prompts with known answers become a fine-tuned model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import polars as pl

from trsr.artifacts import RunFolder, read_parquet, write_json
from trsr.compact.start import fresh_ranker
from trsr.config import Config
from trsr.config.evaluation import Sampler
from trsr.config.ranking import CompactModel, HuggingFaceModel
from trsr.data.candidates import draw_candidates
from trsr.data.catalogue import Catalogue
from trsr.data.prepare import Prepared, load
from trsr.errors import ModelError
from trsr.hf import processes
from trsr.hf.gguf_files import is_local
from trsr.hf.loading import folder_identity, model_identity
from trsr.prompts.templates import RANKING_TEMPLATES, Templates
from trsr.ranking.tasks import ranking_tasks
from trsr.ranking.training import fine_tune
from trsr.records import CANDIDATES, SPLIT, USER, Split
from trsr.stages.pretrain import LOG as PRETRAINING_LOG
from trsr.stages.stage import Say, Stage

LOG: Final = "training_log.json"
"""File in the model folder: ``pretraining`` and ``fine_tuning``, the losses as they were logged."""


def _settings(config: Config) -> Any:
    settings = config.model_dump(mode="json", include={"seed", "items", "prompt", "model", "training"})
    templates = Templates(config.prompt.domain, config.prompt.templates)
    settings |= {"templates": templates.versions(RANKING_TEMPLATES)}
    if isinstance(config.model, HuggingFaceModel) and is_local(config.model.path):
        settings["weights"] = _weights(config.model.path)
    return settings


def _weights(path: str) -> str:
    """Name the weights on this machine, which may be others than those of the last run."""
    try:
        return model_identity(path)
    except (OSError, ValueError, ModelError):  # an adapter without its base: training tells
        if not Path(path).is_dir():
            raise
        return folder_identity(Path(path))


def _run(config: Config, folder: RunFolder, say: Say) -> list[Path]:
    prepared = load(folder)
    summaries = read_parquet(folder.require(folder.summaries, "summarize"))
    catalogue = Catalogue(prepared.items, config.ranking_fields)
    offered = None if config.training.sampler == "candidates" else drawn_both_ways(config, prepared)
    train = ranking_tasks(prepared, summaries, catalogue, Split.TRAIN, offered)
    valid = ranking_tasks(prepared, summaries, catalogue, Split.VALID)
    ranker = fresh_ranker(config, folder.pretrained)
    log = fine_tune(
        ranker,
        train,
        valid,
        config.training,
        folder.checkpoints / "fine_tuning",
        config.training_seed,
        config.evaluation.batch_tokens,
    )
    if isinstance(config.model, HuggingFaceModel):
        licence = f", licence {ranker.origin.licence}" if ranker.origin.licence else ""
        say(f"  model: {ranker.origin.identity}{licence}")
    fitted = ranker.prompt.prompting.max_tokens
    if fitted < config.prompt.max_tokens:
        say(
            f"  prompt.max_tokens {config.prompt.max_tokens} is lowered to {fitted}: the model has "
            f"{fitted + 1} positions, one of them for the answer"
        )
    say(f"  prompts: {ranker.plan.reason}")
    if not processes.is_main():
        return []
    ranker.save(folder.model)
    write_json({"pretraining": _pretraining(config, folder), "fine_tuning": log}, folder.model / LOG)
    sums = [entry["valid_recall_sum"] for entry in log if "valid_recall_sum" in entry]
    if sums:
        best = max(range(len(sums)), key=sums.__getitem__)
        say(f"  best epoch {best + 1} of {len(sums)}: validation Recall@3+5+10 {sums[best]:.3f}")
    return [folder.model]


def drawn_both_ways(config: Config, prepared: Prepared) -> pl.DataFrame:
    """Give training users the negatives of both samplers, as `USER` and `CANDIDATES`.

    The frozen ones come first, then those drawn the other way that aren't among them.
    """
    histories = prepared.histories.filter(pl.col(SPLIT) == Split.TRAIN.value)
    sampler: Sampler = "popularity" if config.candidates.sampler == "uniform" else "uniform"
    rule = config.candidates.model_copy(update={"sampler": sampler})
    other = draw_candidates(histories, prepared.items, rule, config.training_seed, prepared.background)
    joined = prepared.candidates.select(USER, CANDIDATES).join(
        other.select(USER, pl.col(CANDIDATES).alias("other")), on=USER, maintain_order="left"
    )
    both = pl.col(CANDIDATES).list.concat("other").list.unique(maintain_order=True)
    return joined.select(USER, both.alias(CANDIDATES))


def _start(config: Config) -> tuple[Path, ...]:
    """Return the folder of a model that another run has pre-trained."""
    model = config.model
    return (model.start,) if isinstance(model, CompactModel) and model.start is not None else ()


def _pretraining(config: Config, folder: RunFolder) -> list[dict[str, float]]:
    """Read the losses that the model's pre-training logged, if it had one."""
    (path,) = _start(config) or (folder.pretrained,)
    if not isinstance(config.model, CompactModel) or not (path / PRETRAINING_LOG).exists():
        return []
    losses: list[dict[str, float]] = json.loads((path / PRETRAINING_LOG).read_text(encoding="utf-8"))[
        "next_item"
    ]
    return losses


STAGE = Stage(
    name="train",
    purpose="fine-tune the ranking model on answers yes or no",
    settings=_settings,
    needs=("prepare", "summarize", "pretrain"),
    run=_run,
    inputs=_start,
    scratch=lambda folder: (folder.checkpoints,),
)
