"""``trsr train`` under torchrun: two real processes train one model, the first does the rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from small_run import small_config, small_config_file
from trsr.artifacts import RunFolder
from trsr.pipeline import run

LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.mark.skipif(torch.cuda.is_available(), reason="compares with one process on the CPU")
def test_two_processes_run_to_the_model_of_one_that_accumulates_twice_as_much(tmp_path: Path) -> None:
    path = small_config_file(tmp_path, training__accumulation=1, training__lora__dropout=0.0)
    command = [*LAUNCHER, "-m", "trsr", "evaluate", str(path)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
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


def test_what_fails_before_training_ends_all_processes(tmp_path: Path) -> None:
    path = small_config_file(tmp_path, data={"format": "microlens", "path": str(tmp_path / "nowhere")})
    command = [*LAUNCHER, "-m", "trsr", "train", str(path)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "nowhere" in done.stderr
