"""The training loop of all neural systems: batches, epochs, when to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trsr.baselines.neural.network import NegativeDraw, Network
from trsr.errors import ModelError
from trsr.progress import Progress

_BATCHES_A_POOL = 32


def pad(sequences: Sequence[NDArray[np.int32]], padding: int) -> Tensor:
    """Put sequences into rows, with padding at the end, ``(n, longest)``.

    Examples
    --------
    >>> pad([np.array([4, 5], np.int32), np.array([6], np.int32)], 9).tolist()
    [[4, 5], [6, 9]]
    """
    lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    rows = np.full((len(sequences), int(lengths.max(initial=0))), padding, dtype=np.int64)
    if lengths.sum():
        rows[np.arange(rows.shape[1]) < lengths[:, None]] = np.concatenate(sequences)
    return torch.from_numpy(rows)


def by_length(
    lengths: NDArray[np.int64], batch_size: int, draw: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Give the places of every batch of an epoch: random, but of like lengths, so that little is padding.

    Examples
    --------
    >>> batches = list(by_length(np.array([3, 9, 3, 9]), 2, np.random.default_rng(0)))
    >>> sorted(sorted(batch.tolist()) for batch in batches)
    [[0, 2], [1, 3]]
    """
    order = draw.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), batch_size * _BATCHES_A_POOL):
        pool = order[start : start + batch_size * _BATCHES_A_POOL]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += [pool[first : first + batch_size] for first in range(0, len(pool), batch_size)]
    for place in draw.permutation(len(batches)):
        yield batches[place]


def prefixes(sequences: Sequence[NDArray[np.int32]]) -> list[NDArray[np.int32]]:
    """Cut every sequence after each of its items.

    Examples
    --------
    >>> [prefix.tolist() for prefix in prefixes([np.array([7, 8], np.int32)])]
    [[7], [7, 8]]
    """
    return [sequence[:end] for sequence in sequences for end in range(1, len(sequence) + 1)]


_LARGEST_GRADIENT = 5.0


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """How a system was trained, to be read beside its figures.

    Parameters
    ----------
    examples
        Targets in one epoch.
    negatives
        What targets were told from, in words.
    best_epoch
        The epoch whose weights were kept.
    seconds
        Wall time.
    validation
        The kept weights' figure by `trsr.baselines.validation.Validation`; NaN without validation users.
    """

    examples: int
    negatives: str
    epochs: int
    best_epoch: int
    seconds: float
    validation: float


def train(
    network: Network,
    sequences: Sequence[NDArray[np.int32]],
    counts: torch.Tensor,
    validate: Callable[[], float],
    seed: int,
    title: str,
) -> TrainingRecord:
    """Train in place, and leave the weights of the epoch that `validate` liked best.

    Parameters
    ----------
    network
        A new one, on its device.
    sequences
        What users took, oldest first, each with 2 items or more.
    counts
        How often training saw each item, ``(n_items,)``, on the network's device.
    validate
        Measures the network as it is; higher is better, NaN when there is nothing to measure by, and then
        the last epoch is kept.
    seed
        Of batches and negatives; dropout draws from torch's own generator.
    title
        What the progress says.

    Raises
    ------
    ModelError
        When the loss is no number any more.
    """
    settings, started = network.settings, time.monotonic()
    cut = [sequence[-settings.max_length - 1 :] for sequence in sequences]
    examples = prefixes(cut) if network.of_prefixes else cut
    epoch = _Epoch(network, examples, NegativeDraw(counts, settings.uniform_share), seed, title)
    best, best_number = -math.inf, 0
    kept: dict[str, torch.Tensor] = {}
    with Progress(title, settings.max_epochs * len(examples), "examples at most") as progress:
        for number in range(1, settings.max_epochs + 1):
            progress.note(epoch=number, best=best_number)
            epoch.run(progress)
            with epoch.averaged():
                network.items.settle(counts)
                network.eval()
                figure = validate()
                if math.isnan(figure) or figure > best:
                    best, best_number = figure, number
                    kept = {name: value.clone() for name, value in network.state_dict().items()}
            if number - best_number >= settings.patience:
                break
    network.load_state_dict(kept)
    return TrainingRecord(
        examples=len(examples) if network.of_prefixes else sum(map(len, cut)),
        negatives=network.kind_of_negatives(int((counts > 0).sum())),
        epochs=number,
        best_epoch=best_number,
        seconds=time.monotonic() - started,
        validation=best,
    )


class _Epoch:
    """One pass over all examples, again and again."""

    def __init__(
        self,
        network: Network,
        examples: Sequence[NDArray[np.int32]],
        negatives: NegativeDraw,
        seed: int,
        title: str,
    ) -> None:
        settings = network.settings
        self._network = network
        self._examples = examples
        self._lengths = np.array([len(example) for example in examples], dtype=np.int64)
        self._negatives = negatives
        self._title = title
        self._batches = np.random.default_rng(seed)
        self._generator = torch.Generator().manual_seed(seed)
        self._optimizer = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self._warmup = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, lambda step: min(1.0, (step + 1) / max(settings.warmup_steps, 1))
        )
        self._number = 0
        self._steps = 0
        self._weights: list[torch.Tensor] = list(network.parameters())
        self._averages = [weight.detach().clone() for weight in self._weights] if settings.average else []

    def run(self, progress: Progress) -> None:
        self._number += 1
        self._network.train()
        settings, padding = self._network.settings, self._network.items.padding
        device = self._negatives.seen.device
        total = 0.0
        for batch in by_length(self._lengths, settings.batch_size, self._batches):
            ids = pad([self._examples[place] for place in batch], padding).to(device)
            loss = self._network.loss(ids, self._negatives, self._generator)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self._network.parameters(), _LARGEST_GRADIENT)
            self._optimizer.step()
            self._warmup.step()
            self._follow()
            total += loss.item() * len(batch)
            progress.advance(len(batch))
        if not math.isfinite(total):
            message = (
                f"{self._title}: the loss of epoch {self._number} is no number; lower its setting "
                f"learning_rate (it is {settings.learning_rate:g})"
            )
            raise ModelError(message)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the averaged weights into the network while the block runs."""
        if not self._averages:
            yield
            return
        current = [weight.detach().clone() for weight in self._weights]
        self._set(self._averages)
        try:
            yield
        finally:
            self._set(current)

    @torch.no_grad()
    def _set(self, values: list[torch.Tensor]) -> None:
        torch._foreach_copy_(self._weights, values)

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the averages towards the weights; faster at first, so that the start is soon forgotten."""
        self._steps += 1
        if self._averages:
            decay = min(self._network.settings.average, self._steps / (self._steps + 10))
            torch._foreach_lerp_(self._averages, self._weights, 1 - decay)
