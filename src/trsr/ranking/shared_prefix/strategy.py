"""Which way a model's candidates are computed, proven at load time and said; the way that reuses prefixes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn

from trsr.errors import ModelError
from trsr.hf.tokenization import pad_right, token_batches
from trsr.ranking.shared_prefix.attention import Attachment, Transcript, pretrained
from trsr.ranking.shared_prefix.forward import columns_at, packed_logits, scored_logits
from trsr.ranking.shared_prefix.layout import UserPrompts, factor, pack, share_rows

_CPU_ROW: Final = 1024
"""Tokens of a row whose activations a processor's cache still holds."""
_CPU_WIDTH: Final = 256
"""Of models that are narrower, the steps of a row cost more than its numbers."""
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

    A causal language model, adapters included, that can be packed is fitted for it (`Attachment`) and stays
    so; what is not packed it computes as before.
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

    With gradients switched on the result is differentiable; without, large users go through the model in
    parts. The logits are ``(n_candidates of all users, n_answers)``, float32.

    Parameters
    ----------
    model
        The model that `plan` was chosen for.
    answers
        Token ids whose logits are wanted, such as those of yes and no; None for the whole vocabulary.
    budget
        Tokens of a row, or of a batch when plain; None for what suits the device.
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


def joint_budget(model: nn.Module) -> int:
    """Return the tokens of a row that several users' requests share: more where a CPU's model is narrow."""
    budget = row_budget(model)
    width: int = pretrained(model).config.get_text_config().hidden_size
    return budget * max(1, _CPU_WIDTH // width) if budget == _CPU_ROW else budget


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


Logits = Callable[[UserPrompts, Sequence[int]], Tensor]
"""A way of computing: prompts and the answers' ids to logits, shape ``(n_candidates, n_answers)``."""

_ANSWERS: Final = 32
_LONGEST_WINDOW: Final = 512
"""Windows up to this length are tried out; longer ones are checked by what the layers declare."""
_KINDS: Final = frozenset({"full_attention", "sliding_attention"})


class Probe:
    """Random prompts with what the untouched model, before anything is attached to it, says about them."""

    def __init__(self, model: nn.Module, seed: int = 0) -> None:
        config = model.config.get_text_config()  # type: ignore[operator, union-attr]
        generator = torch.Generator().manual_seed(seed)
        self._dtype = next(model.parameters()).dtype
        prefix = _prefix_length(config)

        def ids(count: int) -> list[int]:
            drawn: list[int] = torch.randint(config.vocab_size, (count,), generator=generator).tolist()
            return drawn

        suffixes = [ids(count) for count in (5, 1, 9)]
        self._user = UserPrompts(ids(prefix), suffixes)
        self._answers = ids(_ANSWERS)
        self._expected = _one_by_one(model, self._user, self._answers)
        other = UserPrompts(ids(prefix), suffixes)
        self._effect = _rms(_one_by_one(model, other, self._answers) - self._expected)

    def check(self, way: Logits) -> float:
        """Return the root mean square error of `way`.

        Raises `ModelError` when the error is too large beside what another prefix would change.
        """
        got = way(self._user, self._answers)
        error = _rms(got - self._expected)
        limit = self._limit()
        if not error <= limit:
            message = f"its logits differ from those of single prompts by {error:.2g} (allowed: {limit:.2g})"
            raise ModelError(message)
        return error

    def _limit(self) -> float:
        # A wrong attention changes about as much as another prefix does; rounding changes far less.
        of_effect, of_size = (0.01, 4e-6) if self._dtype == torch.float32 else (0.1, 0.02)
        return of_effect * self._effect + of_size * _rms(self._expected)


def _prefix_length(config: Any) -> int:
    window = getattr(config, "sliding_window", None)
    return 19 if window is None or window > _LONGEST_WINDOW else max(19, window + 3)


def _one_by_one(model: nn.Module, user: UserPrompts, answers: Sequence[int]) -> Tensor:
    device = next(model.parameters()).device
    rows = [torch.tensor([[*user.prefix, *suffix]], device=device) for suffix in user.suffixes]
    logits = [
        model(input_ids=row, use_cache=False, logits_to_keep=1).logits[0, -1, list(answers)] for row in rows
    ]
    return torch.stack(logits).float()


def _rms(values: Tensor) -> float:
    return float(values.double().square().mean().sqrt())


def check_windows(config: Any, windows: dict[int, int | None]) -> None:
    """Check that every layer's window came from the layer itself as the text model's configuration has it.

    `windows` has the window of each layer as a packed row heard it. Raises `ModelError` when a layer is of an
    unknown kind or its window did not arrive.
    """
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        kinds = ["full_attention" if window is None else "sliding_attention"] * config.num_hidden_layers
    unknown = sorted(set(kinds) - _KINDS)
    if unknown:
        message = f"it has layers of {unknown}, which packed rows do not compute"
        raise ModelError(message)
    for layer, kind in enumerate(kinds):
        expected = window if kind == "sliding_attention" else None
        if windows.get(layer) != expected:
            message = f"layer {layer} should have the window {expected}, and told {windows.get(layer)}"
            raise ModelError(message)


def plain_logits(
    model: nn.Module, users: Sequence[UserPrompts], answers: Sequence[int] | None, budget: int
) -> Tensor:
    """Return what `candidate_logits` does, one prompt per candidate, in length-sorted batches.

    A forward pass has `budget` tokens at most, padding included.
    """
    prompts = [[*user.prefix, *suffix] for user in users for suffix in user.suffixes]
    batches = token_batches([len(prompt) for prompt in prompts], budget)
    logits = torch.cat([_ends(model, [prompts[row] for row in batch], answers) for batch in batches])
    order = torch.tensor([row for batch in batches for row in batch], device=logits.device)
    return logits[order.argsort()]


def reusing_logits(model: nn.Module, user: UserPrompts, answers: Sequence[int] | None) -> Tensor:
    """Return the logits of the answer tokens after every candidate of one user, the prefix computed once.

    The way for models that keep keys and values but whose attention can't be set: more memory and time than a
    packed row takes, and still no prefix is computed twice. The logits are ``(n_candidates, n_answers)``,
    float32; `answers` None is the whole vocabulary.
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
