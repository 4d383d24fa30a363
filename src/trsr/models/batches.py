"""Rows of token ids into batches of like length, padded on the right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_POOL_BATCHES: Final = 32


def shuffled_batches(
    lengths: NDArray[np.int64], size: int, generator: np.random.Generator, multiple: int = 1
) -> list[NDArray[np.int64]]:
    """Divide rows at random into batches of about equal length inside each batch.

    Rows are shuffled, then sorted by length inside pools of some batches, so that
    a batch wastes little padding and epochs still differ.

    Parameters
    ----------
    lengths
        Tokens of each row, shape ``(n_rows,)``.
    size
        Rows a batch at most.
    generator
        Source of the order.
    multiple
        The number of batches is a multiple of this, so that updates of several
        batches never cross an epoch; batches are then a little smaller.

    Returns
    -------
    list
        Row indices of each batch; every row once, or again where there are fewer rows than batches.
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


def token_batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Divide rows into batches of at most `budget` tokens, padding included, longest rows first.

    A row that is longer than the budget is a batch by itself.

    Examples
    --------
    >>> token_batches([3, 9, 4, 2], budget=10)
    [[1], [2, 0], [3]]
    """
    batches: list[list[int]] = []
    longest = 0
    for row in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if not batches or (len(batches[-1]) + 1) * longest > budget:
            batches.append([])
            longest = lengths[row]
        batches[-1].append(row)
    return batches


def pad_right(rows: Sequence[Sequence[int]], padding: int) -> Tensor:
    """Stack rows into a tensor of shape ``(n_rows, longest)``, filled with `padding` on the right."""
    stacked = torch.full((len(rows), max(len(row) for row in rows)), padding, dtype=torch.long)
    for place, row in enumerate(rows):
        stacked[place, : len(row)] = torch.tensor(row, dtype=torch.long)
    return stacked
