"""Fine-tunes a tiny ranker in every case, in one process or as one of two."""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tiny_shop
import torch
from safetensors.torch import save_file
from transformers import TrainerCallback

from forks import Forked
from trsr.config.ranking import Lora, Training
from trsr.ranking import training
from trsr.ranking.shared_prefix import strategy as plan

SMALL = Training(
    negatives=2, epochs=2, batch_size=6, learning_rate=3e-3, lora=Lora(dropout=0.0), precision="float32"
)
CASES: dict[str, tuple[dict[str, Any], int, int | None]] = {
    "full": ({"method": "full"}, 1024, None),
    "lora": ({"method": "lora", "accumulation": 2}, 1024, None),
    "rows": ({"method": "full", "loss": "listwise", "batch_size": 12}, 380, None),
    "rows-checkpointed": ({"method": "lora", "batch_size": 12, "gradient_checkpointing": True}, 380, None),
    "killed": ({"method": "lora", "epochs": 3}, 1024, 7),
}
"""Settings, tokens of a packed row, and the update in which the run is broken off and taken up again."""


class Kill(TrainerCallback):
    """Ends the training as if the process had died."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: object, state: Any, control: object, **kwargs: object) -> None:
        if state.global_step == self._step:
            raise KeyboardInterrupt


@contextmanager
def killed_at(step: int) -> Iterator[None]:
    original = training._RankingTrainer.__init__

    def patched(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.add_callback(Kill(step))

    training._RankingTrainer.__init__ = patched  # type: ignore[method-assign]
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        training._RankingTrainer.__init__ = original  # type: ignore[method-assign]


def run(
    case: str, folder: Path, times: int = 1
) -> tuple[dict[str, torch.Tensor], list[dict[str, float]], list[int]]:
    """Return final weights, the log, and how many forward passes each batch took."""
    changes, row, kill = CASES[case]
    settings = SMALL.model_copy(update=changes)
    settings = settings.model_copy(update={"accumulation": settings.accumulation * times})
    people, valid = tiny_shop.users(24), tiny_shop.users(4)
    rows: list[int] = []
    share, budget = plan.share_rows, plan._CPU_ROW

    def counted(*args: Any) -> Any:
        shared = share(*args)
        if torch.is_grad_enabled():
            rows.append(len(shared))
        return shared

    plan.share_rows, plan._CPU_ROW = counted, row  # type: ignore[assignment,misc]
    try:
        if kill is not None:
            with killed_at(kill):
                training.fine_tune(tiny_shop.ranker(), people, valid, settings, folder, seed=5)
        ranker = tiny_shop.ranker()
        log = training.fine_tune(ranker, people, valid, settings, folder, seed=5)
    finally:
        plan.share_rows, plan._CPU_ROW = share, budget  # type: ignore[misc]
    weights = {name: value.detach().clone() for name, value in ranker.model.named_parameters()}
    return weights, log, rows


def both(target: Callable[..., object], *arguments: object) -> list[tuple[int, str]]:
    """Call a function of a plain module in two processes that torchrun could have started."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [Forked(_take_part, rank, port, target, arguments) for rank in (0, 1)]
    done = []
    try:
        for process in processes:
            done.append(process.end())
            if done[-1][0]:
                break
    finally:
        for process in processes:  # one that fails leaves the other waiting
            process.kill()
    return done


def _take_part(rank: int, port: int, target: Callable[..., object], arguments: tuple[object, ...]) -> None:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()})
    os.environ.update(MASTER_ADDR="127.0.0.1", CUDA_VISIBLE_DEVICES="")
    target(*arguments)


def train_all(out: Path) -> None:
    """Train in every case, and leave weights and log in `out`."""
    rank = os.environ["RANK"]
    for case in CASES:
        weights, log, rows = run(case, out / case)
        save_file(weights, out / f"{case}-{rank}.safetensors")
        (out / f"{case}-{rank}.json").write_text(json.dumps({"log": log, "rows": rows}), encoding="utf-8")
    torch.distributed.destroy_process_group()


def command(words: Sequence[str]) -> None:
    """Run the command line."""
    sys.argv = ["trsr", *words]
    importlib.import_module("trsr.cli").main()
