"""The model's words at the answer slot, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trsr.models.batches import pad_right


def pad_rows(rows: Sequence[Sequence[int]], padding: int) -> tuple[Tensor, Tensor]:
    """Stack rows: ids ``(n_rows, longest)`` and the place of each row's last token ``(n_rows,)``."""
    return pad_right(rows, padding), torch.tensor([len(row) - 1 for row in rows])


def answer_logits(model: nn.Module, ids: Tensor, ends: Tensor) -> Tensor:
    """Return the logits after the last token of every row, in float32.

    Rows are padded on the right and there is no mask: a causal model can't see what
    comes later, so the padding changes nothing and the fastest attention kernel is
    free to run. The product with the vocabulary is made at the rows' ends only.

    Parameters
    ----------
    model
        A causal language model.
    ids, ends
        From `pad_rows`, on the model's device.

    Returns
    -------
    Tensor
        Shape ``(n_rows, vocabulary)``.
    """
    kept, place = torch.unique(ends, return_inverse=True)
    logits: Tensor = model(input_ids=ids, use_cache=False, logits_to_keep=kept).logits
    return logits[torch.arange(len(ids), device=ids.device), place].float()
