"""A trial at load time: whether a way of computing gives what one prompt per candidate gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from trsr.errors import ModelError
from trsr.ranking.shared_prefix.packing import UserPrompts

Logits = Callable[[UserPrompts, Sequence[int]], Tensor]
"""A way of computing: prompts and the answers' ids to logits, shape ``(n_candidates, n_answers)``."""

_ANSWERS: Final = 32
_LONGEST_WINDOW: Final = 512
"""Windows up to this length are tried out; longer ones are checked by what the layers declare."""
_KINDS: Final = frozenset({"full_attention", "sliding_attention"})


class Probe:
    """Random prompts with what the untouched model says about them.

    Parameters
    ----------
    model
        The model as it was loaded, before anything is attached to it.
    seed
        Seed of the prompts.
    """

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

        Raises
        ------
        ModelError
            When the error is too large beside what another prefix would change.
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
    """Check that every layer's window came from the layer itself as the configuration has it.

    Parameters
    ----------
    config
        The text model's configuration.
    windows
        The window of each layer, as a packed row heard it.

    Raises
    ------
    ModelError
        When a layer is of an unknown kind or its window did not arrive.
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
