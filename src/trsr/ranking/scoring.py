"""p(yes) of every candidate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm.auto import tqdm

from trsr.models.batches import token_batches
from trsr.ranking.answers import Answers
from trsr.ranking.examples import EncodedUser
from trsr.ranking.logits import answer_logits, pad_rows


def score(
    model: nn.Module,
    users: Sequence[EncodedUser],
    answers: Answers,
    padding: int,
    batch_tokens: int,
    *,
    title: str | None = None,
) -> list[NDArray[np.float64]]:
    """Return p(yes) per user and candidate.

    p is the softmax over the two answers' logits, computed in float32. A score
    doesn't depend on the batch that it was computed in, up to rounding.

    Parameters
    ----------
    model
        A causal language model.
    users
        Ranking tasks.
    answers
        The two answers' tokens.
    padding
        Id to fill rows with.
    batch_tokens
        Tokens a batch, padding included.
    title
        What the progress bar says; None for no bar.

    Returns
    -------
    list
        One array of shape ``(n_candidates,)`` a user.
    """
    places = [(number, place) for number, user in enumerate(users) for place in range(len(user.suffixes))]
    lengths = [len(users[number].prefix) + len(users[number].suffixes[place]) for number, place in places]
    scores = [np.zeros(len(user.suffixes)) for user in users]
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    batches = token_batches(lengths, batch_tokens)
    bar = tqdm(total=len(places), desc=title, unit="prompt", disable=True if title is None else None)
    with torch.inference_mode(), bar:
        for batch in batches:
            rows = [users[places[row][0]].row(places[row][1]) for row in batch]
            ids, ends = pad_rows(rows, padding)
            logits = answer_logits(model, ids.to(device), ends.to(device))
            margins = logits[:, [answers.yes, answers.no]].softmax(dim=-1)[:, 0]
            for row, p_yes in zip(batch, margins.tolist(), strict=True):
                number, candidate = places[row]
                scores[number][candidate] = p_yes
            bar.update(len(batch))
    model.train(was_training)
    return scores
