"""Sequences of different lengths as rectangles of ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
