"""Histories become a pre-trained compact model; a model from elsewhere comes pre-trained."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from trsr.artifacts import write_json
from trsr.compact.start import Log, pretrain_compact, pretraining_settings
from trsr.config import Config
from trsr.config.ranking import CompactModel
from trsr.data.catalogue import Catalogue
from trsr.data.prepare import Prepared
from trsr.hf.trainer import tracked
from trsr.ranking.ranker import Ranker
from trsr.records import HISTORY, ITEMS, SPLIT, TARGET, Split
from trsr.stages.work import Artifact, Made, Work

PRETRAINING_LOG: Final = "pretraining_log.json"
"""File in the folder of the pre-trained model: the losses of each phase, as they were logged."""


def learnable_histories(prepared: Prepared) -> list[list[str]]:
    """Return what models may learn from: training users' histories with targets, and the background.

    Validation and test users are not among them.
    """
    train = prepared.histories.filter(pl.col(SPLIT) == Split.TRAIN.value)
    own = train.select(pl.concat_list(HISTORY, TARGET)).to_series().to_list()
    return [*own, *prepared.background[ITEMS].to_list()]


def compact_ranker(config: Config, prepared: Prepared, checkpoints: Path) -> tuple[Ranker, Log]:
    """Make the compact model from the catalogue and from histories that may be learnt from."""
    shown, whole = (
        Catalogue(prepared.items, fields) for fields in (config.ranking_fields, config.items.fields)
    )
    histories = learnable_histories(prepared)
    return pretrain_compact(config, shown.items(shown.ids), whole.items(whole.ids), histories, checkpoints)


def pretrain(work: Work, prepared: Artifact[Prepared]) -> Artifact[Path | None]:
    """Teach the compact model the catalogue and what comes next.

    The artifact is the folder of the model; None for a model that comes from elsewhere.
    """
    checkpoints = work.folder.checkpoints / "pretraining"

    def make(config: Config) -> Made:
        model = config.model
        if not isinstance(model, CompactModel):
            work.say("  nothing to do: the model comes from elsewhere")
            return Made([])
        if model.start is not None:
            work.say(f"  nothing to do: starts from {model.start}")
            return Made([])
        target = work.folder.pretrained
        with tracked(config.training.report_to, work.folder.path):
            ranker, log = compact_ranker(config, prepared.value, checkpoints)
        ranker.save(target)
        write_json(log, target / PRETRAINING_LOG)
        known = len(learnable_histories(prepared.value))
        work.say(f"  learnt from {known:,} histories of {prepared.value.items.height:,} items")
        return Made([target])

    return work.step(
        "pretrain",
        "teach the compact model the catalogue and what comes next",
        make,
        lambda made: made.path if made.entry.outputs else None,
        settings=(),
        # Which of these decide the result, `pretraining_settings` knows.
        free=("seed", "training", "model", "items", "prompt"),
        content=[prepared.digest, pretraining_settings(work.config)],
        scratch=(checkpoints,),
    )
