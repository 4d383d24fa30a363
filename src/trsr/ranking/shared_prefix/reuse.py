"""Candidates of one user without a packed row: one prompt each, or the prefix's keys copied for each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trsr.models.batches import pad_right, token_batches
from trsr.ranking.shared_prefix.head import columns_at
from trsr.ranking.shared_prefix.packing import UserPrompts


def plain_logits(
    model: nn.Module, users: Sequence[UserPrompts], answers: Sequence[int] | None, budget: int
) -> Tensor:
    """Return the logits of the answer tokens, one prompt per candidate, in length-sorted batches.

    Parameters
    ----------
    model
        A causal language model of transformers.
    users
        Prompts of the users.
    answers
        Token ids whose logits are wanted; None for the whole vocabulary.
    budget
        Tokens a forward pass at most, padding included.

    Returns
    -------
    Tensor
        Shape ``(n_candidates of all users, n_answers)``, float32.
    """
    prompts = [[*user.prefix, *suffix] for user in users for suffix in user.suffixes]
    batches = token_batches([len(prompt) for prompt in prompts], budget)
    logits = torch.cat([_ends(model, [prompts[row] for row in batch], answers) for batch in batches])
    order = torch.tensor([row for batch in batches for row in batch], device=logits.device)
    return logits[order.argsort()]


def reusing_logits(model: nn.Module, user: UserPrompts, answers: Sequence[int] | None) -> Tensor:
    """Return the logits of the answer tokens after every candidate, the prefix computed once.

    The way for models whose attention can't be set: more memory and time than a packed
    row takes, and still no prefix is computed twice.

    Parameters
    ----------
    model
        A causal language model of transformers that keeps keys and values.
    user
        The user's prompts.
    answers
        Token ids whose logits are wanted; None for the whole vocabulary.

    Returns
    -------
    Tensor
        Shape ``(n_candidates, n_answers)``, float32.
    """
    if not user.prefix:
        return _ends(model, user.suffixes, answers)
    device = next(model.parameters()).device
    prefix = torch.tensor([list(user.prefix)], device=device)
    cache = model(input_ids=prefix, use_cache=True, logits_to_keep=1).past_key_values
    cache.batch_repeat_interleave(len(user.suffixes))
    positions = len(user.prefix) + torch.arange(max(map(len, user.suffixes)), device=device)
    inputs = {
        "position_ids": positions.expand(len(user.suffixes), -1),
        "past_key_values": cache,
        "use_cache": True,
    }
    return _ends(model, user.suffixes, answers, inputs)


def _ends(
    model: nn.Module,
    rows: Sequence[Sequence[int]],
    answers: Sequence[int] | None,
    inputs: dict[str, object] | None = None,
) -> Tensor:
    """Pad rows on the right, which a causal model can't see, and read the answers at their ends."""
    device = next(model.parameters()).device
    ends = torch.tensor([len(row) - 1 for row in rows], device=device)
    # Fill is never looked at, so any id that every vocabulary has will do.
    ids = pad_right(rows, 0).to(device)
    return columns_at(model, {"input_ids": ids, "use_cache": False, **(inputs or {})}, ends, answers)
