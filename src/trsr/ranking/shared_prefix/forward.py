"""What all candidates of a user share is computed once, kept for the next request, and scored from."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import Lock
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from trsr.errors import ModelError
from trsr.ranking.shared_prefix.attention import (
    ARGUMENT,
    KeysAndValues,
    PackedCall,
    Transcript,
    layers_of,
    pretrained,
)
from trsr.ranking.shared_prefix.layout import Pack, UserPrompts, divide, pack, share_rows

_GROUP_TOKENS: Final = 2048


class PrefixMemory:
    """Remembers prefixes of one model; what was asked for longest ago goes first.

    A prefix is known by its token ids, so a user whose history or summary has changed is a new one. Clear it
    when the model's weights change. Keys and values of at most `max_bytes` are held; a prefix that is larger
    alone is not held.

    Examples
    --------
    >>> memory = PrefixMemory(max_bytes=100)
    >>> import torch
    >>> layer = (torch.zeros(1, 1, 5, 2), torch.zeros(1, 1, 5, 2))  # 80 bytes
    >>> memory.put((1, 2), {0: layer})
    >>> memory.put((3, 4), {0: layer})
    >>> memory.get((1, 2)) is None, memory.held_bytes
    (True, 80)
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._prefixes: OrderedDict[tuple[int, ...], dict[int, KeysAndValues]] = OrderedDict()
        self._lock = Lock()
        self.held_bytes = 0
        """Bytes of the keys and values that are held."""

    def __len__(self) -> int:
        return len(self._prefixes)

    def __contains__(self, prefix: Sequence[int]) -> bool:
        return tuple(prefix) in self._prefixes

    def get(self, prefix: Sequence[int]) -> dict[int, KeysAndValues] | None:
        """Return a prefix's keys and values, layer by layer, if they are held."""
        with self._lock:
            layers = self._prefixes.get(tuple(prefix))
            if layers is not None:
                self._prefixes.move_to_end(tuple(prefix))
            return layers

    def put(self, prefix: Sequence[int], layers: dict[int, KeysAndValues]) -> None:
        """Hold a prefix's keys and values, at the cost of those that were not asked for lately."""
        size = _bytes(layers)
        with self._lock:
            self._forget(tuple(prefix))
            if size > self._max_bytes:
                return
            while self.held_bytes + size > self._max_bytes:
                self._forget(next(iter(self._prefixes)))
            self._prefixes[tuple(prefix)] = layers
            self.held_bytes += size

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._prefixes.clear()
            self.held_bytes = 0

    def _forget(self, prefix: tuple[int, ...]) -> None:
        self.held_bytes -= _bytes(self._prefixes.pop(prefix, {}))


def _bytes(layers: dict[int, KeysAndValues]) -> int:
    return sum(part.nbytes for pair in layers.values() for part in pair)


def packed_logits(
    model: nn.Module,
    row: Pack,
    answers: Sequence[int] | None,
    *,
    trims: bool = True,
    transcript: Transcript | None = None,
    places: Tensor | None = None,
) -> Tensor:
    """Return the logits of the answer tokens after every candidate of a packed row.

    Gradients flow as through the model's own forward, which is what runs: wrappers around it (adapters, DDP)
    work as they do elsewhere. The model, or what it wraps, has an `Attachment`. The logits are
    ``(n_candidates, n_answers)``, float32, candidates in the row's order; `answers` None is the whole
    vocabulary. With `trims` the last layer is computed at the answer slots only. A `transcript` is for
    whoever wants to know what the layers said, or to keep or hand in a prefix. `places`, ``(n_places,)``, are
    those of the row where logits are wanted instead of the answer slots; `trims` must be off then.

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
    wanted = layout.answers if places is None else places.to(row.ids.device)
    call = PackedCall(layout, transcript, answers_only=trims)
    inputs: dict[str, Any] = {
        "input_ids": row.ids,
        "position_ids": layout.positions[None],
        # Taken by transformers for a finished mask, so that it makes none; the attention does not look at it.
        "attention_mask": torch.zeros((1, 1, 1, 1), device=row.ids.device),
        "use_cache": False,
        "logits_to_keep": 0 if trims else wanted,
        ARGUMENT: call,
    }
    logits = answer_columns(model, inputs, answers)
    ran, layers = len(transcript.windows), len(layers_of(inner))
    if ran != layers or logits.shape[:2] != (1, len(wanted)):
        message = (
            f"{type(inner).__name__} ran the packed attention in {ran} of {layers} layers and gave logits of "
            f"shape {tuple(logits.shape)} for {len(wanted)} places; use one prompt per candidate"
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

    Candidates go through the model in rows of at most `budget` of their tokens; the first row takes the
    prefix along, unless it is remembered, and the others use its keys. On a CPU rows of about a thousand
    tokens stay in the processor's cache, and any number of candidates needs the memory of one row.
    `memory`, of this model alone, is where the prefix is looked for and kept for the next request. The rest
    is as in `packed_logits`.
    """
    held = memory.get(user.prefix) if memory is not None else None
    # Candidates of a row pay for each other's tokens on a GPU (`gridded`): large rows are of several groups.
    groups = divide(user, min(budget, _GROUP_TOKENS))
    keeps = held is None and bool(user.prefix) and (memory is not None or len(groups) > 1)
    prefix = held or {}
    logits = []
    first = 1 if keeps else 0
    rest = share_rows([replace(group, prefix=()) for group in groups[first:]], budget)
    for places in [[0]] * first + [[place + first for place in row] for row in rest]:
        row = pack([groups[place] for place in places], is_held=bool(prefix))
        transcript = Transcript(prefixes=[prefix] * len(places), keeps_prefixes=keeps and not prefix)
        logits.append(packed_logits(model, row, answers, trims=trims, transcript=transcript))
    if keeps and memory is not None:
        memory.put(user.prefix, prefix)
    return torch.cat(logits)


@torch.no_grad()
def remembered_logits(
    model: nn.Module,
    users: Sequence[UserPrompts],
    answers: Sequence[int] | None,
    *,
    budget: int,
    trims: bool = True,
    memory: PrefixMemory,
) -> Tensor:
    """Do what `scored_logits` does for several users, who share rows with and without their prefixes.

    Where attention is one product for a row (`gridded`), users of held prefixes have rows of their own.
    """
    held = [memory.get(user.prefix) for user in users]
    asked = [
        user if keys is None else replace(user, prefix=()) for user, keys in zip(users, held, strict=True)
    ]
    logits = []
    for places in share_rows(asked, budget):
        if len(places) == 1 or not _attends_by_user(model):
            logits += [
                scored_logits(model, users[place], answers, budget=budget, trims=trims, memory=memory)
                for place in places
            ]
            continue
        prefixes = [held[place] or {} for place in places]
        row = pack([users[place] for place in places], is_held=[held[place] is not None for place in places])
        transcript = Transcript(prefixes=prefixes, keeps_prefixes=True)
        logits.append(packed_logits(model, row, answers, trims=trims, transcript=transcript))
        for place, prefix in zip(places, prefixes, strict=True):
            if held[place] is None and users[place].prefix:
                memory.put(users[place].prefix, prefix)
    return torch.cat(logits)


def _attends_by_user(model: nn.Module) -> bool:
    inner = pretrained(model)
    text = inner.config.get_text_config()
    on_cpu = next(inner.parameters()).device.type == "cpu"
    return on_cpu and getattr(text, "sliding_window", None) is None


def answer_columns(model: nn.Module, inputs: dict[str, Any], answers: Sequence[int] | None) -> Tensor:
    """Run the model and return the logits of the answer tokens, ``(n_rows, n_places, n_answers)``, float32.

    The model's own forward runs on `inputs`, its keywords, so a bias, a scale or a cap of the logits counts
    as it always does; only the product with the rest of the vocabulary is left out. `answers` None is the
    whole vocabulary.
    """
    if answers is None:
        return _logits(model(**inputs))
    head: nn.Module | None = pretrained(model).get_output_embeddings()  # type: ignore[no-untyped-call]
    wanted = torch.tensor(list(answers), device=inputs["input_ids"].device)
    if head is None or type(head) is not nn.Linear:
        return _logits(model(**inputs)).index_select(-1, wanted)
    with _giving(head, wanted):
        return _logits(model(**inputs))


@contextmanager
def _giving(head: nn.Linear, wanted: Tensor) -> Iterator[None]:
    """Let the head compute the wanted rows alone, in float32: with the 8 bits of bfloat16 they would tie."""

    def forward(input: Tensor) -> Tensor:
        bias = None if head.bias is None else head.bias.index_select(0, wanted).float()
        with torch.autocast(input.device.type, enabled=False):
            return linear(input.float(), head.weight.index_select(0, wanted).float(), bias)

    head.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        head.__dict__.pop("forward", None)


def columns_at(
    model: nn.Module, inputs: dict[str, Any], ends: Tensor, answers: Sequence[int] | None
) -> Tensor:
    """Run a batch as `answer_columns` does and return the logits at one place of each row.

    `ends` has the place of each row, ``(n_rows,)``; the logits are ``(n_rows, n_answers)``, float32.
    """
    kept, place = torch.unique(ends, return_inverse=True)
    logits = answer_columns(model, {**inputs, "logits_to_keep": kept}, answers)
    return logits[torch.arange(len(ends), device=ends.device), place]


def _logits(output: Any) -> Tensor:
    logits: Tensor = output.logits
    return logits.float()
