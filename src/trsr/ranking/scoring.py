"""p(yes) of every candidate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trsr.progress import Progress
from trsr.ranking.answers import Answers
from trsr.ranking.examples import EncodedUser
from trsr.ranking.shared_prefix.answering import scored_logits
from trsr.ranking.shared_prefix.memory import PrefixMemory
from trsr.ranking.shared_prefix.plan import Path, Plan, candidate_logits, row_budget

_USERS_A_CALL: Final = 32


def score(
    model: nn.Module,
    users: Sequence[EncodedUser],
    answers: Answers,
    plan: Plan,
    batch_tokens: int,
    *,
    memory: PrefixMemory | None = None,
    title: str | None = None,
) -> list[NDArray[np.float64]]:
    """Return p(yes) per user and candidate.

    p is the softmax over the two answers' logits, computed in float32. A score
    doesn't depend on what was computed beside it, up to rounding.

    Parameters
    ----------
    model
        A causal language model.
    users
        Ranking tasks.
    answers
        The two answers' tokens.
    plan
        How the prompts go through the model.
    batch_tokens
        Tokens a batch, padding included, of models that take one prompt per candidate.
    memory
        Where prefixes are kept for a user's next request; None where nobody asks twice.
    title
        What the progress says; None to say nothing.

    Returns
    -------
    list
        One array of shape ``(n_candidates,)`` a user.
    """
    was_training = model.training
    model.eval()
    scores: list[NDArray[np.float64]] = []
    bar = Progress(title or "", len(users), "users", shown=title is not None)
    with torch.no_grad(), bar:
        for start in range(0, len(users), _USERS_A_CALL):
            part = users[start : start + _USERS_A_CALL]
            logits = _logits(model, part, answers, plan, batch_tokens, memory)
            p_yes = logits.softmax(dim=-1)[:, 0].double().cpu().numpy()
            ends = np.cumsum([len(user.suffixes) for user in part])
            scores += np.split(p_yes, ends[:-1])
            bar.advance(len(part))
    model.train(was_training)
    return scores


def _logits(
    model: nn.Module,
    users: Sequence[EncodedUser],
    answers: Answers,
    plan: Plan,
    batch_tokens: int,
    memory: PrefixMemory | None,
) -> Tensor:
    words = (answers.yes, answers.no)
    prompts = [user.prompts for user in users]
    if memory is not None and plan.path is Path.PACKED:
        budget = row_budget(model)
        parts = [
            scored_logits(model, user, words, budget=budget, trims=plan.trims, memory=memory)
            for user in prompts
        ]
        return torch.cat(parts)
    return candidate_logits(
        model, prompts, words, plan, budget=batch_tokens if plan.path is Path.PLAIN else None
    )
