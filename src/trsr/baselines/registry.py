"""Baselines by their names in the configuration, and their scores of many users."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trsr.baselines.base import Baseline, Places, Scores
from trsr.registry import BASELINES, find_part, make_part, parse

_USERS_A_BATCH: Final = 4096
_CELLS_A_BATCH: Final = 16_000_000


def baseline_class(name: str) -> type[Baseline]:
    """Return the class of a name of the configuration; raises `ConfigError` when there is none."""
    found: type[Baseline] = find_part("baseline", parse(name)[0], BASELINES)
    return found


def open_baseline(name: str, seed: int) -> Baseline:
    """Make an untrained baseline with the settings in its name; the seed is that of what it draws or trains.

    Raises `ConfigError` when there is no baseline of that name, or it lacks a setting.

    Examples
    --------
    >>> type(open_baseline("tfidf", seed=0)).__name__
    'TextSimilarity'
    """
    opened: Baseline = make_part("baseline", name, BASELINES, seed=seed)
    return opened


def score_places(
    system: Scores, users: Sequence[str], histories: Sequence[Places], candidates: Places
) -> NDArray[np.float64]:
    """Score candidates given as places in the catalogue, ``(n_users, n_candidates)``, in batches of users."""
    scores = np.empty(candidates.shape)
    for start in range(0, len(users), _USERS_A_BATCH):
        part = slice(start, start + _USERS_A_BATCH)
        scores[part] = system.score(users[part], histories[part], candidates[part])
    return scores


def score_catalogue(
    baseline: Baseline, users: Sequence[str], histories: Sequence[Places], n_items: int
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Score every item of the catalogue, in batches of users that fit into memory.

    Yields which of the users, and their scores, ``(n_users_of_the_batch, n_items)``; 128 MB at most, or one
    user.
    """
    size = max(1, _CELLS_A_BATCH // max(1, n_items))
    for start in range(0, len(users), size):
        part = slice(start, min(start + size, len(users)))
        yield part, baseline.score(users[part], histories[part])
