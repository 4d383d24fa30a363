"""Decoding many prompts side by side: an answer that ends makes room for the next; proven at load."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trsr.llm.slot_attention import ARGUMENT, NAME, KeysWritten, SlotCall, SlotMemory, register

Draw = Callable[[Tensor], Tensor]
"""Logits of one row, shape ``(1, vocabulary)``, to scores whose largest is the drawn token."""

Take = Callable[[int], Sequence[tuple[int, Sequence[int]]]]
"""Asked for some prompts, gives at most so many, with their numbers."""

_Ids = NDArray[np.int64]

_NOTHING: Final = np.empty(0, dtype=np.int64)
# A beginning shorter than this is not worth a forward of its own before the others'.
_WORTH_WAITING: Final = 16
# Rows of a CPU's forward stay in its cache; a GPU wants many tokens a forward.
_CPU_TOKENS: Final = 512
_GPU_TOKENS: Final = 8192


@dataclass(slots=True)
class _Slot:
    """One prompt under way."""

    number: int
    last: int
    length: int
    draw: Draw | None
    answer: list[int] = field(default_factory=list)


class SlotEngine:
    """Keeps rows of keys and values, one a prompt, and decodes all rows a token at a time.

    Rows under way lie side by side at the front, so that a forward reads them without copying. A prompt takes
    over the keys of its longest beginning that any row holds, whoever computed it: an instruction that all
    prompts begin with is computed once. The model's attention must be `slot_attention.attend`.
    `prompt_tokens_computed` counts the prompt tokens that went through the model so far; the others were
    taken over.
    """

    def __init__(self, model: Any, rows: int) -> None:
        self._model = model
        self._budget = _CPU_TOKENS if model.device.type == "cpu" else _GPU_TOKENS
        self._layers: int = model.config.get_text_config().num_hidden_layers
        self.memory = SlotMemory(rows)
        self._held: list[_Ids] = [_NOTHING] * rows
        self._slots: list[_Slot] = []
        self.last_call: SlotCall | None = None
        self.prompt_tokens_computed = 0

    def answer(
        self,
        take: Take,
        limit: int,
        stops: frozenset[int],
        draw: Callable[[Sequence[int]], Draw] | None = None,
    ) -> Iterator[tuple[int, list[int]]]:
        """Yield ``(number, new tokens)`` of every prompt as soon as its answer ends.

        `take` is asked for more prompts, of one token at least, whenever there is room; when it has none and
        no answer is under way, the work is done. An answer ends with one of the tokens `stops`, or at the
        limit. `draw` makes the drawing of a prompt's tokens; None takes the likeliest.
        """
        self._slots = []
        # One forward for several prompts; empty rows in the meantime cost nothing, for none are computed.
        enough = max(1, self.memory.rows // 8)
        while True:
            free = self.memory.rows - len(self._slots)
            if free >= enough and (prompts := take(free)):
                self.admit(prompts, limit, draw)
            if not self._slots:
                return
            self._advance()
            yield from self._ended(limit, stops)

    @torch.inference_mode()
    def admit(
        self,
        prompts: Sequence[tuple[int, Sequence[int]]],
        limit: int,
        draw: Callable[[Sequence[int]], Draw] | None = None,
    ) -> None:
        """Compute keys and values of prompts but for their last tokens, which the first step takes."""
        self.memory.reserve(max(len(prompt) for _, prompt in prompts) + limit)
        bodies = [np.asarray(prompt[:-1], dtype=np.int64) for _, prompt in prompts]
        begin = 0
        while begin < len(bodies):
            begin += self._fill(bodies[begin:], len(self._slots) + begin)
        self._slots += [
            _Slot(number, prompt[-1], len(prompt) - 1, draw(prompt) if draw else None)
            for number, prompt in prompts
        ]

    @torch.inference_mode()
    def logits(self) -> Tensor:
        """Take the last token of every row under way; return float32 ``(rows under way, vocabulary)``."""
        ids = [[slot.last] for slot in self._slots]
        starts = [slot.length for slot in self._slots]
        self.last_call = SlotCall(starts, 1, max(starts) + 1, self._model.device)
        return self._forward(0, ids, self.last_call)[:, -1].float()

    def take(self, tokens: Sequence[int]) -> None:
        """Give every row under way its next token."""
        for slot, token in zip(self._slots, tokens, strict=True):
            slot.answer.append(token)
            slot.last = token
            slot.length += 1

    def _advance(self) -> None:
        logits = self.logits()
        if any(slot.draw is not None for slot in self._slots):
            rows = [
                slot.draw(logits[place : place + 1]) if slot.draw else logits[place : place + 1]
                for place, slot in enumerate(self._slots)
            ]
            logits = torch.cat(rows)
        self.take(logits.argmax(dim=-1).tolist())

    def _ended(self, limit: int, stops: frozenset[int]) -> list[tuple[int, list[int]]]:
        """Take out the rows whose answer is over; the last row under way moves into each gap."""
        over = [
            row for row, slot in enumerate(self._slots) if slot.last in stops or len(slot.answer) >= limit
        ]
        ended = [(self._slots[row].number, self._slots[row].answer) for row in over]
        for row in reversed(over):
            mover = self._slots.pop()
            if row < len(self._slots):
                self._move(len(self._slots), row, mover)
        return ended

    @torch.inference_mode()
    def _move(self, source: int, target: int, mover: _Slot) -> None:
        self.memory.copy(source, target, mover.length)
        self._held[target] = self._held[source]
        self._slots[target] = mover

    @torch.inference_mode()
    def _fill(self, bodies: Sequence[_Ids], first: int) -> int:
        """Fill rows from `first` on in one forward; return how many prompts it took."""
        starts: list[int] = []
        longest = 0
        for row, body in enumerate(bodies, start=first):
            source, shared = max(
                ((place, _common(held, body)) for place, held in enumerate(self._held)),
                key=lambda pair: pair[1],
            )
            rest = max(longest, len(body) - shared)
            mates = bodies[: row - first]
            if mates and (
                rest * (len(mates) + 1) > self._budget
                or max(_common(mate, body) for mate in mates) >= shared + _WORTH_WAITING
            ):
                break
            self.memory.copy(source, row, shared)
            self._held[row] = body[:shared]
            starts.append(shared)
            longest = rest
        taken = bodies[: len(starts)]
        if longest:
            ids = [
                [*body[start:].tolist(), *[0] * (longest - len(body) + start)]
                for body, start in zip(taken, starts, strict=True)
            ]
            call = SlotCall(
                starts, longest, max(map(len, taken)), self._model.device, last_layer=self._layers
            )
            with suppress(KeysWritten):
                self._forward(first, ids, call)
            self.prompt_tokens_computed += sum(map(len, taken)) - sum(starts)
        self._held[first : first + len(taken)] = taken
        return len(taken)

    def _forward(self, first: int, ids: list[list[int]], call: SlotCall) -> Tensor:
        device = self._model.device
        self.memory.aim(first, call)
        # A mask of four axes is taken as it is, so that the model makes none of its own.
        output = self._model(
            input_ids=torch.tensor(ids, device=device),
            position_ids=call.places,
            attention_mask=torch.empty((1, 1, 1, 1), device=device),
            past_key_values=self.memory,
            use_cache=True,
            logits_to_keep=1,
            **{ARGUMENT: call},
        )
        logits: Tensor = output.logits
        return logits


def _common(one: _Ids, other: _Ids) -> int:
    """Count the tokens that two prompts begin with alike."""
    length = min(len(one), len(other))
    unlike = one[:length] != other[:length]
    return int(unlike.argmax()) if unlike.any() else length


# Three prompts: the last two begin alike, so that taking over keys is tried too; all lengths differ.
_LENGTHS: Final = (9, 23, 30)
_ALIKE: Final = 20
_STEPS: Final = 3
# Largest deviation of logits that counts as rounding, as a share of their spread.
_ROUNDING: Final = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.15}


def fit_slots(model: Any) -> str:
    """Set a causal model's attention for slots when it computes what the model's own computes.

    Calls without slots stay what they were. Returns an empty text when the model was fitted; else why it
    wasn't, and then it is unchanged.
    """
    before = getattr(model.config, "_attn_implementation", None)
    if before != "sdpa":
        return f"its attention implementation is {before!r}, and slots replace 'sdpa' only"
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ()) - {
        "full_attention",
        "sliding_attention",
    }
    if kinds:
        return f"it has layers of {', '.join(sorted(kinds))}"
    prompts = _prompts(model)
    try:
        wanted = [_own_logits(model, prompt) for prompt in prompts]
        register()
        model.set_attn_implementation(NAME)
        problem = _deviation(model, prompts, wanted)
    # Models fail here in as many ways as there are models, and all of them mean the same.
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    if problem:
        model.set_attn_implementation(before)
    return problem


def _prompts(model: Any) -> list[list[int]]:
    vocabulary = model.config.get_text_config().vocab_size
    stream = torch.Generator().manual_seed(0)
    ids = torch.randint(vocabulary, (len(_LENGTHS), max(_LENGTHS)), generator=stream)
    ids[2, :_ALIKE] = ids[1, :_ALIKE]
    return [row[:length].tolist() for row, length in zip(ids, _LENGTHS, strict=True)]


@torch.inference_mode()
def _own_logits(model: Any, prompt: list[int]) -> Tensor:
    """Decode a few steps without any cache; return float32 logits ``(steps, vocabulary)``."""
    row, found = list(prompt), []
    for _ in range(_STEPS):
        found.append(model(torch.tensor([row], device=model.device)).logits[0, -1].float())
        row.append(int(found[-1].argmax()))
    return torch.stack(found)


def _deviation(model: Any, prompts: list[list[int]], wanted: list[Tensor]) -> str:
    engine = SlotEngine(model, len(prompts))
    for number, prompt in enumerate(prompts):
        engine.admit([(number, prompt)], _STEPS)
    expected = sum(_LENGTHS) - len(_LENGTHS) - _ALIKE
    if engine.prompt_tokens_computed != expected:
        return f"{engine.prompt_tokens_computed} prompt tokens were computed in place of {expected}"
    for step in range(_STEPS):
        logits = engine.logits()
        for row, own in zip(logits, wanted, strict=True):
            error = float((row - own[step]).abs().max() / own[step].std().clamp(min=1e-6))
            if not error <= _ROUNDING.get(model.dtype, 1e-3):
                return f"its logits in slots are off by {error:.1e} of their spread"
        engine.take([int(own[step].argmax()) for own in wanted])
    return _unlike_attention(model, engine)


def _unlike_attention(model: Any, engine: SlotEngine) -> str:
    """Check that every layer went through the slots' attention and told its window."""
    config, call = model.config.get_text_config(), engine.last_call
    if call is None or call.layers != config.num_hidden_layers:
        return "not every layer calls the attention that was set"
    window = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    slides = window is not None and (kinds is None or "sliding_attention" in kinds)
    if slides and window not in call.windows:
        return f"its sliding window of {window} does not reach the attention that was set"
    return ""
