"""The loss of ordinary supervised fine-tuning: every token of prompt and answer, not the answer alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from trsr.models.batches import pad_right
from trsr.ranking.shared_prefix.packing import UserPrompts

_IGNORED = -100


def whole_text_loss(model: nn.Module, users: Sequence[UserPrompts], answers: Tensor) -> Tensor:
    """Return the mean cross-entropy over all tokens of all prompts, answers included.

    Parameters
    ----------
    model
        A causal language model.
    users
        Prompts of the users.
    answers
        Token id of the right answer to each prompt, in order, ``(n_prompts,)``.

    Returns
    -------
    Tensor
        A scalar; each token but a prompt's first counts the same.
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
