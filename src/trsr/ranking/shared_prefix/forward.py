"""A packed row through a model: logits of the answers, at the answer slots only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from trsr.errors import ModelError
from trsr.ranking.shared_prefix.attention import ARGUMENT, PackedCall, Transcript
from trsr.ranking.shared_prefix.layout import Pack, UserPrompts, divide, pack
from trsr.ranking.shared_prefix.patch import layers_of, pretrained
from trsr.ranking.shared_prefix.prefix_cache import PrefixMemory


def packed_logits(
    model: nn.Module,
    row: Pack,
    answers: Sequence[int] | None,
    *,
    trims: bool = True,
    transcript: Transcript | None = None,
) -> Tensor:
    """Return the logits of the answer tokens after every candidate of a packed row.

    Gradients flow as through the model's own forward, which is what runs: wrappers
    around it (adapters, DDP) work as they do elsewhere.

    Parameters
    ----------
    model
        A model with an `Attachment`, or a wrapper of one.
    row
        The packed row; it is moved to the model's device if it lies elsewhere.
    answers
        Token ids whose logits are wanted; None for the whole vocabulary.
    trims
        Compute the last layer at the answer slots only.
    transcript
        For whoever wants to know what the layers said, or to keep or hand in a prefix.

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
    row = row.to(next(inner.parameters()).device)
    layout = row.layout
    transcript = Transcript() if transcript is None else transcript
    transcript.windows.clear()
    call = PackedCall(layout, transcript, answers_only=trims)
    inputs: dict[str, Any] = {
        "input_ids": row.ids,
        "position_ids": layout.positions[None],
        # Taken by transformers for a finished mask, so that it makes none; the attention does not look at it.
        "attention_mask": torch.zeros((1, 1, 1, 1), device=row.ids.device),
        "use_cache": False,
        "logits_to_keep": 0 if trims else layout.answers,
        ARGUMENT: call,
    }
    logits = answer_columns(model, inputs, answers)
    ran, layers = len(transcript.windows), len(layers_of(inner))
    if ran != layers or logits.shape[:2] != (1, len(layout.answers)):
        message = (
            f"{type(inner).__name__} ran the packed attention in {ran} of {layers} layers and gave logits of "
            f"shape {tuple(logits.shape)} for {len(layout.answers)} candidates; use one prompt per candidate"
        )
        raise ModelError(message)
    return logits[0]


@torch.no_grad()
def scored_logits(
    model: nn.Module,
    user: UserPrompts,
    answers: Sequence[int] | None,
    *,
    budget: int,
    trims: bool = True,
    memory: PrefixMemory | None = None,
) -> Tensor:
    """Return the logits of the answer tokens after every candidate of one user, without gradients.

    Candidates go through the model in groups; the first group takes the prefix along,
    unless it is remembered, and the others use its keys. On a CPU groups of about a
    thousand tokens stay in the processor's cache, and any number of candidates needs
    the memory of one group.

    Parameters
    ----------
    model
        A model with an `Attachment`, or a wrapper of one.
    user
        The user's prompts.
    answers
        Token ids whose logits are wanted; None for the whole vocabulary.
    budget
        Candidates' tokens of a group at most.
    trims
        Compute the last layer at the answer slots only.
    memory
        Of this model alone: where the prefix is looked for, and kept for the next request.

    Returns
    -------
    Tensor
        Shape ``(n_candidates, n_answers)``, float32.
    """
    held = memory.get(user.prefix) if memory is not None else None
    groups = divide(user, budget)
    keeps = held is None and bool(user.prefix) and (memory is not None or len(groups) > 1)
    transcript = Transcript(prefix=held or {}, keeps_prefix=keeps)
    logits = []
    for group in groups:
        row = pack([group], is_held=bool(transcript.prefix))
        logits.append(packed_logits(model, row, answers, trims=trims, transcript=transcript))
        transcript.keeps_prefix = False
    if keeps and memory is not None:
        memory.put(user.prefix, transcript.prefix)
    return torch.cat(logits)


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
