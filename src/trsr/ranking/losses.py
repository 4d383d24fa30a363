"""Losses of fine-tuning: over every token of prompt and answer, and over all candidates of a user."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from trsr.hf.tokenization import pad_right
from trsr.ranking.shared_prefix.layout import UserPrompts

_IGNORED = -100


def whole_text_loss(model: nn.Module, users: Sequence[UserPrompts], answers: Tensor) -> Tensor:
    """Return the mean cross-entropy over all tokens of all prompts, answers included.

    `answers` has the token id of the right answer to each prompt, in order, ``(n_prompts,)``. Each token but
    a prompt's first counts the same.
    """
    rows = [
        [*user.prefix, *suffix, int(answer)]
        for (user, suffix), answer in zip(
            ((user, suffix) for user in users for suffix in user.suffixes), answers, strict=True
        )
    ]
    device = next(model.parameters()).device
    ids = pad_right(rows, 0)
    lengths = torch.tensor([len(row) for row in rows])
    wanted = ids.masked_fill(torch.arange(ids.shape[1])[None] >= lengths[:, None], _IGNORED)
    # Padding on the right is exact for a causal model: no token sees what comes after it.
    logits = model(input_ids=ids.to(device), use_cache=False).logits[:, :-1]
    return functional.cross_entropy(
        logits.flatten(0, 1).float(), wanted[:, 1:].flatten().to(device), ignore_index=_IGNORED
    )


def listwise_loss(logits: Tensor, sizes: Sequence[int], targets: Sequence[int]) -> Tensor:
    """Return the mean cross-entropy of the true item among each user's candidates; each user counts the same.

    The probability of a candidate is the softmax, over the user's candidates, of the margin between the
    logits of yes and no, which stand in this order, ``(n_candidates of all users, 2)``. `sizes` has the
    candidates of each user, `targets` the place of the true item among them.

    Examples
    --------
    Two users; the first is undecided between two candidates, the second is sure of the right one of three.

    >>> logits = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 50.0], [50.0, 0.0], [0.0, 50.0]])
    >>> loss = listwise_loss(logits, sizes=[2, 3], targets=[0, 1])
    >>> round(loss.item(), 4)  # half of log 2
    0.3466
    """
    margins = torch.split(logits[:, 0] - logits[:, 1], list(sizes))
    losses = [-user.log_softmax(0)[target] for user, target in zip(margins, targets, strict=True)]
    return torch.stack(losses).mean()
