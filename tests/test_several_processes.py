"""Two real processes train one model, as under torchrun; the first does the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import two_processes
from safetensors.torch import load_file

from small_run import small_config, small_config_file
from trsr import pipeline
from trsr.artifacts import RunFolder
from trsr.errors import USERS_FAILED, RunError
from trsr.hf import processes
from trsr.pipeline import run

LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def launched(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command under torchrun itself, whose three processes load the libraries anew."""
    command = [*LAUNCHER, "-m", "trsr", *words]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def forked(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command in two processes that have the libraries, in the environment that torchrun gives."""
    code, said = zip(*two_processes.both(two_processes.command, words), strict=True)
    return subprocess.CompletedProcess(words, max(code), "".join(said), "")


@pytest.mark.skipif(torch.cuda.is_available(), reason="compares with one process on the CPU")
@pytest.mark.parametrize("start", [forked, pytest.param(launched, marks=pytest.mark.slow)])
def test_two_processes_run_to_the_model_of_one_that_accumulates_twice_as_much(
    tmp_path: Path, start: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    path = small_config_file(tmp_path, training__accumulation=1, training__lora__dropout=0.0)
    done = start("evaluate", str(path))
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    together = RunFolder(tmp_path / "run")
    assert json.loads(together.metrics.read_text(encoding="utf-8"))["systems"]
    assert {"prepare", "summarize", "pretrain", "train", "evaluate"} <= together.entries().keys()
    alone = run(
        small_config(tmp_path / "alone", training__accumulation=2, training__lora__dropout=0.0),
        until="train",
        say=lambda line: None,
    )
    ours, theirs = (load_file(folder.model / "adapter_model.safetensors") for folder in (together, alone))
    assert ours.keys() == theirs.keys()
    assert any(weight.abs().max() > 1e-4 for name, weight in ours.items() if "lora_B" in name)
    for name, weight in theirs.items():
        assert torch.allclose(ours[name], weight, rtol=0, atol=1e-5), name


@pytest.mark.parametrize(("code", "goes_on"), [(0, True), (USERS_FAILED, True), (1, False)])
def test_users_without_a_summary_keep_nobody_from_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, goes_on: bool
) -> None:
    waited: list[bool] = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, code))
    monkeypatch.setattr(processes, "wait", lambda: waited.append(True))
    told = nullcontext() if goes_on else pytest.raises(RunError, match="ended with code 1")
    with told:
        pipeline._lead(RunFolder(tmp_path))
    assert waited == [True] * goes_on


@pytest.mark.slow
def test_what_fails_before_training_ends_all_processes(tmp_path: Path) -> None:
    path = small_config_file(tmp_path, data={"format": "microlens", "path": str(tmp_path / "nowhere")})
    done = launched("train", str(path))
    assert done.returncode != 0
    assert "nowhere" in done.stderr
