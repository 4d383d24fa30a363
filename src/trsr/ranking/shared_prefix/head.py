"""A model's forward whose output embedding holds the answers' rows only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from trsr.ranking.shared_prefix.attachment import pretrained


def answer_columns(model: nn.Module, inputs: dict[str, Any], answers: Sequence[int] | None) -> Tensor:
    """Run the model and return the logits of the answer tokens.

    The model's own forward runs, so a bias, a scale or a cap of the logits counts as
    it always does; only the product with the rest of the vocabulary is left out.

    Parameters
    ----------
    model
        A causal language model of transformers, or a wrapper of one.
    inputs
        Keywords of its forward.
    answers
        Token ids whose logits are wanted; None for the whole vocabulary.

    Returns
    -------
    Tensor
        Shape ``(n_rows, n_places, n_answers)``, float32.
    """
    if answers is None:
        return _logits(model(**inputs))
    head: nn.Module | None = pretrained(model).get_output_embeddings()  # type: ignore[no-untyped-call]
    wanted = torch.tensor(list(answers), device=inputs["input_ids"].device)
    if head is None or type(head) is not nn.Linear:
        return _logits(model(**inputs)).index_select(-1, wanted)
    name = next(name for name, module in model.named_modules() if module is head)
    rows = {f"{name}.{part}": value.index_select(0, wanted) for part, value in head.named_parameters()}
    # Not tied: the input embedding keeps all its rows when it is the same tensor.
    return _logits(functional_call(model, rows, args=(), kwargs=inputs, tie_weights=False))


def columns_at(
    model: nn.Module, inputs: dict[str, Any], ends: Tensor, answers: Sequence[int] | None
) -> Tensor:
    """Run a batch and return the answers' logits at one place of each row.

    Parameters
    ----------
    model, inputs, answers
        As in `answer_columns`.
    ends
        The place of each row, shape ``(n_rows,)``.

    Returns
    -------
    Tensor
        Shape ``(n_rows, n_answers)``, float32.
    """
    kept, place = torch.unique(ends, return_inverse=True)
    logits = answer_columns(model, {**inputs, "logits_to_keep": kept}, answers)
    return logits[torch.arange(len(ends), device=ends.device), place]


def _logits(output: Any) -> Tensor:
    logits: Tensor = output.logits
    return logits.float()
