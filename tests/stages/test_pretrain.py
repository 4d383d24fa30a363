from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from small_run import small_config
from trsr.artifacts import RunFolder
from trsr.config import Config
from trsr.config.data import DemoData, HistoryWindow
from trsr.data.prepare import prepare
from trsr.pipeline import run
from trsr.records import HISTORY, ITEMS, SPLIT, TARGET
from trsr.stages.train import PRETRAINING_LOG, learnable_histories


def test_nothing_of_validation_and_test_users_is_learnt_from() -> None:
    data = DemoData(users=120, items=100)
    prepared = prepare(Config(data=data, history=HistoryWindow(min=14)))
    assert prepared.background.height > 5
    learnt = learnable_histories(prepared)
    train = prepared.histories.filter(pl.col(SPLIT) == "train")
    assert len(learnt) == train.height + prepared.background.height
    assert learnt[0] == [*train[HISTORY][0], train[TARGET][0]]
    assert learnt[-1] == prepared.background[ITEMS][-1].to_list()
    held_out = prepared.histories.filter(pl.col(SPLIT) != "train")
    withheld = {tuple(history) for history in held_out[HISTORY].to_list()}
    assert withheld
    assert not any(tuple(history[: len(own)]) == own for history in learnt for own in withheld)


def test_several_runs_share_one_pretraining(small: tuple[Config, RunFolder], tmp_path: Path) -> None:
    first = small[1]
    log = json.loads((first.pretrained / PRETRAINING_LOG).read_text())
    assert log["next_item"]
    assert log["questions"]
    assert not first.checkpoints.exists() or not list(first.checkpoints.iterdir())
    told: list[str] = []
    other = small_config(tmp_path / "two", model__start=str(first.pretrained))
    second = run(other, until="train", say=told.append)
    assert any("starts from" in line for line in told)
    assert not second.pretrained.exists()
    assert (second.model / "ranker.json").exists()


@pytest.mark.parametrize("setting", ["summary__paradigm", "prompt__recent_items"])
def test_how_users_are_shown_does_not_make_it_stale(
    small: tuple[Config, RunFolder], tmp_path: Path, setting: str
) -> None:
    shutil.copytree(small[1].path, tmp_path / "run")
    told: list[str] = []
    changed = {"summary__paradigm": "none", "prompt__recent_items": 2}[setting]
    run(small_config(tmp_path / "run", **{setting: changed}), until="pretrain", say=told.append)
    assert "pretrain: complete, skipped" in told
