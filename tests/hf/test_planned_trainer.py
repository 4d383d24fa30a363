import os
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState

from trsr.errors import ConfigError
from trsr.hf import trainer as planned_trainer
from trsr.hf.trainer import PlannedTrainer, plan_arguments, tracked


class Slope(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": ((self.weight * x - x) ** 2).mean()}


def train(folder: Path, monkeypatch: pytest.MonkeyPatch, steps: int) -> list[int]:
    """Train, and give the steps at which checkpoints were written."""
    saved: list[int] = []
    save = PlannedTrainer._save_checkpoint
    monkeypatch.setattr(
        PlannedTrainer,
        "_save_checkpoint",
        lambda self, *rest: (saved.append(self.state.global_step), save(self, *rest))[1],
    )
    arguments = plan_arguments(folder, save_steps=1000, logging_steps=1)
    plan = [float(step) for step in range(steps)]
    PlannedTrainer(Slope(), plan, lambda x: {"x": torch.tensor([x])}, arguments, "fitting").train()
    return saved


def test_a_step_that_takes_long_is_followed_by_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(tmp_path / "quick", monkeypatch, 3) == [3]
    monkeypatch.setattr(planned_trainer, "_LONGEST_UNSAVED_S", 0.0)
    assert train(tmp_path / "slow", monkeypatch, 3) == [1, 2, 3]


def test_checkpoints_are_ten_minutes_apart_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    at = [0.0]
    asks = planned_trainer._TimedCheckpoints(now=lambda: at[0])
    arguments, state = None, TrainerState()

    def asked_at(second: float) -> bool:
        at[0], control = second, TrainerControl()
        asks.on_step_end(arguments, state, control)
        return control.should_save

    asks.on_train_begin(arguments, state, TrainerControl())
    assert [asked_at(second) for second in (1, 599, 600, 610)] == [False, False, True, True]
    asks.on_save(arguments, state, TrainerControl())
    assert [asked_at(second) for second in (620, 1209, 1210)] == [False, False, True]
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not asked_at(5000)


def test_training_without_a_terminal_tells_steps_and_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("trsr.progress._FIRST_LINE_S", 0.0)
    train(tmp_path, monkeypatch, 2)
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("fitting: 1 of 2 steps, ")
    assert "left" in told[0]
    assert told[-1].startswith("fitting: 2 of 2 steps, ended after ")
    assert ", loss " in told[-1]


class Watcher(TrainerCallback):
    """A tracker as transformers knows them, without a package."""

    seen: ClassVar[list[tuple[str, str, dict[str, float]]]] = []

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        self.seen.append((args.run_name, os.environ["TENSORBOARD_LOGGING_DIR"], dict(logs)))


def test_a_tracker_follows_the_training_under_the_name_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    monkeypatch.setitem(planned_trainer.INTEGRATION_TO_CALLBACK, "watcher", Watcher)
    monkeypatch.setattr(planned_trainer, "get_available_reporting_integrations", lambda: ["watcher"])
    monkeypatch.setattr(Watcher, "seen", [])
    run = tmp_path / "my run"
    train(run / "checkpoints" / "silent", monkeypatch, 1)
    assert Watcher.seen == []
    with tracked(("watcher",), run):
        train(run / "checkpoints" / "fine_tuning", monkeypatch, 2)
    names, places, logs = zip(*Watcher.seen, strict=True)
    assert set(names) == {"my run fine_tuning"}
    assert set(places) == {str(run / "tracking" / "fine_tuning")}
    assert [entry["loss"] for entry in logs if "loss" in entry][:2] == [0.0, pytest.approx(1.0, abs=0.1)]
    assert "TENSORBOARD_LOGGING_DIR" not in os.environ
    assert plan_arguments(tmp_path).report_to == []


@pytest.mark.parametrize(
    ("name", "told"),
    [("wandb", "wandb isn't installed; pip install wandb"), ("wandbb", "must be of .*, got 'wandbb'")],
)
def test_a_tracker_that_cannot_be_had_is_told_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, told: str
) -> None:
    monkeypatch.setattr(planned_trainer, "get_available_reporting_integrations", lambda: ["mlflow"])
    with pytest.raises(ConfigError, match=told), tracked((name,), tmp_path):
        pytest.fail("nothing may be trained")
