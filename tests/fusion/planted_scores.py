"""Scores whose worth is known, because the targets were drawn from them."""

import numpy as np
from numpy.typing import NDArray

from trsr.fusion.features import Evidence


def planted(
    users: int = 300, candidates: int = 21, seed: int = 0, cold_share: float = 0.2
) -> tuple[Evidence, NDArray[np.int64], list[str]]:
    """Draw targets by a conditional logit: 1.5 a point of the network's score, 1 of the text's log-odds.

    The network says nonsense about cold items, which targets are drawn from by their text alone.
    """
    draw = np.random.default_rng(seed)
    shape = (users, candidates)
    cold = draw.random(shape) < cold_share
    network, text = draw.normal(size=shape), draw.normal(size=shape)
    utilities = np.where(cold, 0, 1.5 * network) + text
    targets = (utilities + draw.gumbel(size=shape)).argmax(axis=1)
    scores = {
        "language_model": 1 / (1 + np.exp(-text)),
        "sasrec": np.where(cold, 100 * draw.normal(size=shape), network),
        "popularity": np.where(cold, 0, 5.0),
    }
    counts = np.where(cold, 0, 5).astype(np.int64)
    return (
        Evidence(scores, counts, np.zeros(users, dtype=bool)),
        targets,
        [f"u{user}" for user in range(users)],
    )
