"""Which way a model's candidates are computed, found out at load time and said."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn

from trsr.ranking.shared_prefix.answering import packed_logits, scored_logits
from trsr.ranking.shared_prefix.attachment import Attachment, pretrained
from trsr.ranking.shared_prefix.attention import Transcript
from trsr.ranking.shared_prefix.packing import UserPrompts, factor, pack, share_rows
from trsr.ranking.shared_prefix.probe import Probe, check_windows
from trsr.ranking.shared_prefix.reuse import plain_logits, reusing_logits

_CPU_ROW: Final = 1024
"""Tokens of a row whose activations a processor's cache still holds."""
_GPU_ROW: Final = 16_384
"""Tokens of a row that fills a GPU."""
_PLAIN_ROWS: Final = 7
"""Longest prompts in a plain batch, where no budget is given."""


class Path(StrEnum):
    """How the prompts of one user go through a model."""

    PACKED = "packed"
    """All candidates behind the prefix in one row."""
    REUSE = "prefix-reuse"
    """The prefix once, its keys and values copied for a batch of candidates."""
    PLAIN = "plain"
    """One prompt per candidate."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The way that was chosen for a model.

    Parameters
    ----------
    path
        The way.
    trims
        Whether a packed row leaves out of the last layer what no answer needs.
    reason
        Why this way, in one sentence for the log.
    """

    path: Path
    trims: bool
    reason: str


def choose(model: nn.Module) -> Plan:
    """Try the ways on random prompts, fastest first, and take the first that is right.

    A model that can be packed is fitted for it (`Attachment`) and stays so; what is not
    packed it computes as before.

    Parameters
    ----------
    model
        A causal language model, adapters included.
    """
    refusals: list[str] = []
    with _quietly(model):
        probe = Probe(model)
        for path, trims, trial in _trials(model, probe):
            try:
                error = trial()
            # A model that nobody has tried before can fail in any way; each is a reason for the next way.
            except Exception as failure:
                refusals.append(f"not {_name(path, trims)}: {failure}")
                continue
            equal = (
                f"{_name(path, trims)}: random prompts give the logits of single prompts within {error:.1g}"
            )
            return Plan(path, trims, "; ".join([equal, *refusals]))
    return Plan(Path.PLAIN, False, "; ".join(["plain: one prompt per candidate", *refusals]))


def candidate_logits(
    model: nn.Module,
    users: Sequence[UserPrompts],
    answers: Sequence[int] | None,
    plan: Plan,
    *,
    budget: int | None = None,
) -> Tensor:
    """Return the logits of the answer tokens after every candidate of every user, in order.

    With gradients switched on the result is differentiable; without, large users go
    through the model in parts.

    Parameters
    ----------
    model
        The model that `plan` was chosen for.
    users
        Prompts of the users.
    answers
        Token ids whose logits are wanted, such as those of yes and no; None for the whole vocabulary.
    plan
        What `choose` said.
    budget
        Tokens of a row, or of a batch when plain; None for what suits the device.

    Returns
    -------
    Tensor
        Shape ``(n_candidates of all users, n_answers)``, float32.
    """
    if plan.path is Path.PACKED:
        return _packed(model, [factor(user) for user in users], answers, plan, budget or row_budget(model))
    # A cache takes no part in checkpointing and keeps every copy for the backward pass: scoring only.
    if plan.path is Path.REUSE and not torch.is_grad_enabled():
        return torch.cat([reusing_logits(model, user, answers) for user in users])
    longest = max(len(user.prefix) + max(map(len, user.suffixes)) for user in users)
    return plain_logits(model, users, answers, budget or _PLAIN_ROWS * longest)


def row_budget(model: nn.Module) -> int:
    """Return the tokens of a packed row that suit the model's device."""
    return _CPU_ROW if next(model.parameters()).device.type == "cpu" else _GPU_ROW


def _packed(
    model: nn.Module, users: Sequence[UserPrompts], answers: Sequence[int] | None, plan: Plan, budget: int
) -> Tensor:
    logits = []
    for indices in share_rows(users, budget):
        row = [users[index] for index in indices]
        if len(row) > 1 or torch.is_grad_enabled():
            logits.append(packed_logits(model, pack(row), answers, trims=plan.trims))
        else:
            logits.append(scored_logits(model, row[0], answers, budget=budget, trims=plan.trims))
    return torch.cat(logits)


def _trials(model: nn.Module, probe: Probe) -> Iterator[tuple[Path, bool, Callable[[], float]]]:
    yield Path.PACKED, True, partial(_try_packed, model, probe, trims=True)
    yield Path.PACKED, False, partial(_try_packed, model, probe, trims=False)
    yield Path.REUSE, False, lambda: probe.check(lambda user, answers: reusing_logits(model, user, answers))


def _try_packed(model: nn.Module, probe: Probe, *, trims: bool) -> float:
    attachment = Attachment(model)
    heard = Transcript()
    try:
        error = probe.check(
            lambda user, answers: packed_logits(model, pack([user]), answers, trims=trims, transcript=heard)
        )
        check_windows(pretrained(model).config.get_text_config(), heard.windows)
    except Exception:
        attachment.detach()
        raise
    return error


def _name(path: Path, trims: bool) -> str:
    return f"{path} with a trimmed last layer" if trims else str(path)


@contextmanager
def _quietly(model: nn.Module) -> Iterator[None]:
    """Without gradients and dropout; the model's mode comes back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
