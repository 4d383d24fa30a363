"""Histories become a pre-trained compact model; a model from elsewhere comes pre-trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import polars as pl

from trsr.artifacts import RunFolder, write_json
from trsr.compact.start import pretrain_compact, pretraining_settings
from trsr.config import Config
from trsr.config.ranking import CompactModel
from trsr.data.catalogue import Catalogue
from trsr.data.prepare import Prepared, load
from trsr.hf.trainer import tracked
from trsr.records import HISTORY, ITEMS, SPLIT, TARGET, Split
from trsr.stages.stage import Say, Stage

LOG: Final = "pretraining_log.json"
"""File in the folder of the pre-trained model: the losses of each phase, as they were logged."""


def _settings(config: Config) -> Any:
    return pretraining_settings(config)


def learnable_histories(prepared: Prepared) -> list[list[str]]:
    """Return what models may learn from: training users' histories with targets, and the background.

    Validation and test users are not among them.
    """
    train = prepared.histories.filter(pl.col(SPLIT) == Split.TRAIN.value)
    own = train.select(pl.concat_list(HISTORY, TARGET)).to_series().to_list()
    return [*own, *prepared.background[ITEMS].to_list()]


def _run(config: Config, folder: RunFolder, say: Say) -> list[Path]:
    model = config.model
    if not isinstance(model, CompactModel):
        say("  nothing to do: the model comes from elsewhere")
        return []
    if model.start is not None:
        say(f"  nothing to do: starts from {model.start}")
        return []
    prepared = load(folder)
    shown, whole = (
        Catalogue(prepared.items, fields) for fields in (config.ranking_fields, config.items.fields)
    )
    histories = learnable_histories(prepared)
    with tracked(config.training.report_to, folder.path):
        ranker, log = pretrain_compact(
            config,
            shown.items(shown.ids),
            whole.items(whole.ids),
            histories,
            folder.checkpoints / "pretraining",
        )
    ranker.save(folder.pretrained)
    write_json(log, folder.pretrained / LOG)
    say(f"  learnt from {len(histories):,} histories of {len(shown):,} items")
    return [folder.pretrained]


STAGE = Stage(
    name="pretrain",
    purpose="teach the compact model the catalogue and what comes next",
    settings=_settings,
    needs=("prepare",),
    run=_run,
    scratch=lambda folder: (folder.checkpoints / "pretraining",),
)
