"""Sessions that stay with a topic which only the names of items tell, most items seen a few times."""

import numpy as np
import polars as pl

from trsr.baselines.training_data import Places, TrainingData

N_TOPICS, A_TOPIC = 20, 30
N_ITEMS = N_TOPICS * A_TOPIC
STAYS = 0.8
"""Share of moves that stay with the topic."""


def catalogue() -> pl.DataFrame:
    """Names of three words: two of the topic's five, and one that any item may have."""
    draw = np.random.default_rng(0)
    names = []
    for topic in range(N_TOPICS):
        words = [f"topic{topic}word{number}" for number in range(5)]
        names += [
            " ".join([*draw.choice(words, 2, replace=False), f"size{draw.integers(12)}"])
            for _ in range(A_TOPIC)
        ]
    return pl.DataFrame({"item_id": [f"i{place:03}" for place in range(N_ITEMS)], "title": names})


def session(draw: np.random.Generator, length: int) -> Places:
    """Take different items, mostly of one topic."""
    taken = [int(draw.integers(N_ITEMS))]
    while len(taken) < length:
        topic = taken[-1] // A_TOPIC
        near = topic * A_TOPIC + int(draw.integers(A_TOPIC))
        item = near if draw.random() < STAYS else int(draw.integers(N_ITEMS))
        if item not in taken:
            taken.append(item)
    return np.array(taken, np.int32)


def sessions(n: int, seed: int) -> list[Places]:
    """Draw sessions of 4 to 8 items."""
    draw = np.random.default_rng(seed)
    return [session(draw, int(draw.integers(4, 9))) for _ in range(n)]


def topical(users: int = 240, valid_users: int = 60, seed: int = 0) -> TrainingData:
    """Training sessions, and validation users with 20 negatives."""
    drawn = sessions(users + valid_users, seed)
    draw = np.random.default_rng(seed + 1000)
    valid, offered, columns = drawn[users:], [], []
    for taken in valid:
        others = draw.choice(np.setdiff1d(np.arange(N_ITEMS), taken), 20, replace=False)
        row = draw.permutation([taken[-1], *others])
        offered.append(row)
        columns.append(int(np.flatnonzero(row == taken[-1])[0]))
    return TrainingData(
        items=catalogue(),
        fields=(),
        sequences=tuple(drawn[:users]),
        valid_users=tuple(f"v{place}" for place in range(valid_users)),
        valid_histories=tuple(taken[:-1] for taken in valid),
        valid_candidates=np.array(offered, np.int32),
        valid_targets=np.array(columns, np.int64),
    )
