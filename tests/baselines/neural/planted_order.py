"""Histories in which an item says what comes next, and nothing else does."""

import numpy as np
import polars as pl

from trsr.baselines.training_data import Places, TrainingData

N_ITEMS = 40
NEVER_TAKEN = 39
"""Stands in no sequence; its title shares a word with item 38's."""


def walk(start: int, length: int) -> Places:
    """Take what follows, again and again; every item but the last of the catalogue is as popular as any."""
    return np.array([(start + 7 * step) % NEVER_TAKEN for step in range(length)], dtype=np.int32)


def planted(users: int = 150, valid_users: int = 40, seed: int = 0) -> TrainingData:
    """Training sequences, and validation users with 20 negatives."""
    draw = np.random.default_rng(seed)
    walks = [
        walk(int(draw.integers(NEVER_TAKEN)), int(draw.integers(3, 11))) for _ in range(users + valid_users)
    ]
    valid = walks[users:]
    candidates, targets = [], []
    for taken in valid:
        others = np.setdiff1d(np.arange(NEVER_TAKEN), taken)
        offered = draw.permutation([taken[-1], *draw.choice(others, 20, replace=False)])
        candidates.append(offered)
        targets.append(int(np.flatnonzero(offered == taken[-1])[0]))
    return TrainingData(
        items=pl.DataFrame(
            {
                "item_id": [f"i{place:02}" for place in range(N_ITEMS)],
                "title": [f"pair{place // 2} kind{place % 3}" for place in range(N_ITEMS)],
            }
        ),
        fields=(),
        sequences=tuple(walks[:users]),
        valid_users=tuple(f"v{place}" for place in range(valid_users)),
        valid_histories=tuple(taken[:-1] for taken in valid),
        valid_candidates=np.array(candidates, dtype=np.int32),
        valid_targets=np.array(targets),
    )
