"""A packed row through a model: logits of the answers, at the answer slots only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trsr.errors import ModelError
from trsr.ranking.shared_prefix.attachment import layers_of, pretrained
from trsr.ranking.shared_prefix.attention import ARGUMENT, PackedCall
from trsr.ranking.shared_prefix.head import answer_columns
from trsr.ranking.shared_prefix.packing import Pack


def packed_logits(
    model: nn.Module,
    pack: Pack,
    answers: Sequence[int] | None,
    *,
    trims: bool = True,
    windows: dict[int, int | None] | None = None,
) -> Tensor:
    """Return the logits of the answer tokens after every candidate of a packed row.

    Gradients flow as through the model's own forward, which is what runs: wrappers
    around it (adapters, DDP) work as they do elsewhere.

    Parameters
    ----------
    model
        A model with an `Attachment`, or a wrapper of one.
    pack
        The row; it is moved to the model's device if it lies elsewhere.
    answers
        Token ids whose logits are wanted; None for the whole vocabulary.
    trims
        Compute the last layer at the answer slots only.
    windows
        Filled with the sliding window of every layer, for whoever wants to check them.

    Returns
    -------
    Tensor
        Shape ``(n_candidates, n_answers)``, float32, candidates in the row's order.

    Raises
    ------
    ModelError
        When a layer of the model did not attend as a packed row must.
    """
    inner = pretrained(model)
    pack = pack.to(next(inner.parameters()).device)
    layout = pack.layout
    call = PackedCall(layout, answers_only=trims, windows={} if windows is None else windows)
    inputs: dict[str, Any] = {
        "input_ids": pack.ids,
        "position_ids": layout.positions[None],
        # Taken by transformers for a finished mask, so that it makes none; the attention does not look at it.
        "attention_mask": torch.zeros((1, 1, 1, 1), device=pack.ids.device),
        "use_cache": False,
        "logits_to_keep": 0 if trims else layout.answers,
        ARGUMENT: call,
    }
    logits = answer_columns(model, inputs, answers)
    ran, layers = len(call.windows), len(layers_of(inner))
    if ran != layers or logits.shape[:2] != (1, len(layout.answers)):
        message = (
            f"{type(inner).__name__} ran the packed attention in {ran} of {layers} layers and gave logits of "
            f"shape {tuple(logits.shape)} for {len(layout.answers)} candidates; use one prompt per candidate"
        )
        raise ModelError(message)
    return logits[0]
