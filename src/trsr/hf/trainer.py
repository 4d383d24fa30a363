"""transformers' Trainer over batches that were planned before the first step.

The plan lists every batch of every epoch in order, so a resumed run skips what
was done by counting, and sees exactly the batches that an uninterrupted one sees.
Where several processes train together (``torchrun``), each takes every so-manieth
batch, and their gradients are averaged.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import Dataset
from transformers import (
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    get_available_reporting_integrations,
)

from trsr.artifacts import write_text
from trsr.errors import ConfigError
from trsr.hf.processes import count
from trsr.progress import Progress

_POOL_BATCHES: Final = 32


def shuffled_batches(
    lengths: NDArray[np.int64], size: int, generator: np.random.Generator, multiple: int = 1
) -> list[NDArray[np.int64]]:
    """Divide rows at random into batches of about equal length inside each batch.

    Rows (their tokens: ``(n_rows,)``) are shuffled, then sorted by length inside pools of some batches, so
    that a batch of at most `size` rows wastes little padding and epochs still differ. The number of batches
    is a multiple of `multiple`, so that updates of several batches never cross an epoch; batches are then a
    little smaller. Returns the row indices of each batch; every row once, or again where there are fewer rows
    than batches.
    """
    order = generator.permutation(len(lengths))
    pools = max(1, round(len(order) / (size * _POOL_BATCHES)))
    sorted_pools = [pool[np.argsort(lengths[pool], kind="stable")] for pool in np.array_split(order, pools)]
    order = np.concatenate(sorted_pools)
    batches = -(-len(order) // size)
    batches = -(-batches // multiple) * multiple
    # Fewer rows than batches: rows come round again, since a larger batch might not fit into memory.
    parts = np.array_split(np.resize(order, max(len(order), batches)), batches)
    return [parts[place] for place in generator.permutation(len(parts))]


Batch = TypeVar("Batch")

_LONGEST_UNSAVED_S: Final = 600.0


class Plan(Dataset[Batch]):
    """A list of batches as a dataset."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, place: int) -> Batch:
        return self._batches[place]


class PlannedTrainer(Trainer):
    """A Trainer that takes the batches of a plan one after the other, once, and trains `model` in place.

    The plan is every batch of the whole training, in order; `collate` makes of a batch the tensors that
    `compute_loss` takes. The arguments are from `plan_arguments`; the title is what the progress says.
    """

    def __init__(
        self,
        model: nn.Module,
        plan: Sequence[Batch],
        collate: Callable[[Batch], dict[str, torch.Tensor]],
        arguments: TrainingArguments,
        title: str,
    ) -> None:
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=Plan(plan),
            eval_dataset=Plan(()),
            data_collator=lambda rows: collate(rows[0]),
            callbacks=[_Reporter(title), _TimedCheckpoints()],
        )
        for callback in (PrinterCallback, ProgressCallback):
            self.remove_callback(callback)
        # Losses here are means over a batch; the Trainer divides them among accumulated batches.
        self.loss_is_scaled_for_ga = False


_TRACKING: Final[ContextVar[tuple[tuple[str, ...], Path] | None]] = ContextVar("tracking", default=None)
_TENSORBOARD: Final = "TENSORBOARD_LOGGING_DIR"


@contextmanager
def tracked(trackers: tuple[str, ...], folder: Path) -> Iterator[None]:
    """Let every training of the block be followed by trackers, under the name of the run folder.

    Raises ConfigError when transformers knows no such tracker, or its package isn't installed.
    """
    for name in trackers:
        if name not in INTEGRATION_TO_CALLBACK:
            message = f"training.report_to: must be of {', '.join(INTEGRATION_TO_CALLBACK)}, got {name!r}"
            raise ConfigError(message)
        if name not in get_available_reporting_integrations():  # type: ignore[no-untyped-call]
            message = f"training.report_to: {name} isn't installed; pip install {name}, or take it out"
            raise ConfigError(message)
    place = os.environ.get(_TENSORBOARD)
    token = _TRACKING.set((trackers, folder) if trackers else None)
    try:
        yield
    finally:
        _TRACKING.reset(token)
        if trackers and place is None:
            os.environ.pop(_TENSORBOARD, None)


def _tracking(phase: str) -> dict[str, Any]:
    """Give the Trainer's arguments that name trackers and run."""
    if (told := _TRACKING.get()) is None:
        return {"report_to": "none"}
    trackers, folder = told
    # The Trainer's own place is among the checkpoints, which go when training is over.
    place = folder / "tracking"
    if Path(os.environ.get(_TENSORBOARD, place)).is_relative_to(place):
        os.environ[_TENSORBOARD] = str(place / phase)
    return {"report_to": list(trackers), "run_name": f"{folder.name} {phase}"}


def plan_arguments(folder: Path, **settings: Any) -> TrainingArguments:
    """Return Trainer arguments for one pass over a plan: sequential, one planned batch a forward pass.

    Checkpoints go to `folder`; `settings` are further fields of `transformers.TrainingArguments`.
    """
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,
        per_device_train_batch_size=1,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        # A batch may be several forward passes under one backward pass, and not as many on every process: a
        # forward pass must neither talk to the other processes nor guess which parameters come later.
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        logging_nan_inf_filter=False,
        **_tracking(folder.name),
        **settings,
    )
    # Several GPUs in one process would be handed several planned batches at once; torchrun uses them well.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


def uses_bfloat16(precision: str) -> bool:
    """Say whether a training with this setting computes in bfloat16 on this machine."""
    return precision == "bfloat16" or (
        precision == "auto" and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    )


def last_checkpoint(folder: Path) -> str | None:
    """Return the newest checkpoint that was written to its end; others are deleted."""
    for path in sorted(folder.glob("checkpoint-*"), key=lambda path: -int(path.name.rpartition("-")[2])):
        try:
            # The Trainer writes this file last.
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(path)
        else:
            return str(path)
    return None


def clear_other_run(folder: Path, fingerprint: str) -> None:
    """Delete checkpoints that belong to other settings or other data, and mark the folder as this run's."""
    mark = folder / "fingerprint"
    if mark.exists() and mark.read_text(encoding="utf-8") == fingerprint:
        return
    if folder.exists():
        shutil.rmtree(folder)
    write_text(fingerprint, mark)


class _Reporter(TrainerCallback):
    """Says how many updates are done, with the latest loss; the main process alone."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._progress = Progress(title, 0, "steps", shown=False)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin to count where training begins or goes on."""
        self._progress = Progress(
            self._title, state.max_steps, "steps", done=state.global_step, shown=state.is_world_process_zero
        )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count one update."""
        self._progress.advance()

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Show the loss."""
        logs = kwargs.get("logs") or {}
        if "loss" in logs:
            self._progress.note(loss=f"{logs['loss']:.4f}")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Say that it is over."""
        self._progress.close()


class _TimedCheckpoints(TrainerCallback):
    """Asks for a checkpoint at least every ten minutes, however long a step takes."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._saved = now()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count the time from the start of training."""
        self._saved = self._now()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ask when the last one is old."""
        # Processes that train together would have to ask at the same step: theirs come by steps alone.
        if count() == 1 and self._now() - self._saved >= _LONGEST_UNSAVED_S:
            control.should_save = True

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count anew from here."""
        self._saved = self._now()
