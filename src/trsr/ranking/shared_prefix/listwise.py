"""A loss over each user's candidates together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def listwise_loss(logits: Tensor, sizes: Sequence[int], targets: Sequence[int]) -> Tensor:
    """Return the mean cross-entropy of the true item among each user's candidates.

    The probability of a candidate is the softmax, over the user's candidates, of the
    margin between the logits of yes and no.

    Parameters
    ----------
    logits
        Of yes and no, in this order, shape ``(n_candidates of all users, 2)``.
    sizes
        Candidates of each user.
    targets
        Place of the true item among the user's candidates.

    Returns
    -------
    Tensor
        A scalar; each user counts the same.

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
