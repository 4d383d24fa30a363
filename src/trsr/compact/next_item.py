"""Pre-training of the compact model: histories, item by item, tell which item comes next.

A history is written as the ranking prompt writes recent items. The hidden state at the
end of every line is compared with the hidden state that a candidate alone has at its
answer slot, and must be nearest to that of the item that came next. All next items of a
batch, and items drawn from the whole catalogue, stand against each other, so that one
pass over a batch of histories gives some hundreds of examples with a thousand negatives
each. Next-item training of a language model before anything else is the first stage of
LLM2Rec (He et al., KDD 2025); the correction of the sampled softmax is that of Yi et al.
(Sampling-bias-corrected neural modeling, RecSys 2019).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import Qwen2Model, Trainer, TrainingArguments

from trsr.config.ranking import CompactModel
from trsr.hf.loading import without_bars
from trsr.hf.tokenization import pad_right
from trsr.hf.trainer import PlannedTrainer, last_checkpoint, plan_arguments, shuffled_batches

WINDOW: Final = 10
"""Items of a history that are read before the last that is asked for."""

_BATCH: Final = 64
_DRAWN: Final = 512
_DROPPED: Final = 0.2
"""Share of an item's tokens left out each time it is read, so that no single word decides."""
_LOGGED_LOSSES: Final = 200
_STEPS_UNSAVED: Final = 200

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Framed:
    """Each item's own tokens as ids, between the same tokens before and after."""

    before: tuple[int, ...]
    texts: tuple[tuple[int, ...], ...]
    after: tuple[int, ...]

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> Framed:
        """Find what all rows begin and end with.

        Examples
        --------
        >>> Framed.of([[1, 5, 6, 2], [1, 7, 2]])
        Framed(before=(1,), texts=((5, 6), (7,)), after=(2,))
        """
        least = min(map(len, rows))
        before = next((k for k in range(least) if len({row[k] for row in rows}) > 1), least)
        left = least - before
        after = next((k for k in range(left) if len({row[-1 - k] for row in rows}) > 1), left)
        texts = tuple(tuple(row[before : len(row) - after]) for row in rows)
        return cls(tuple(rows[0][:before]), texts, tuple(rows[0][len(rows[0]) - after :]))

    def thinned(self, item: int, generator: np.random.Generator) -> list[int]:
        """Return one item in its frame with some of its tokens left out at random, though never all."""
        text = self.texts[item]
        stays = generator.random(len(text)) >= _DROPPED
        kept = [token for token, is_kept in zip(text, stays, strict=True) if is_kept] or text
        return [*self.before, *kept, *self.after]


@dataclass(frozen=True, slots=True)
class ItemTokens:
    """Every item of the catalogue as token ids, in the ranking prompt's own form.

    `head` stands before the first recent item; `lines` are items among the recent ones; `candidates` are
    items that are asked about, each ending with the answer slot.
    """

    head: tuple[int, ...]
    lines: Framed
    candidates: Framed


class Towers(nn.Module):
    """The model read in two ways: a history's states ask, a candidate's state answers.

    The body comes without its output layer; the seed decides the two projections' weights.
    """

    def __init__(self, body: Qwen2Model, seed: int) -> None:
        super().__init__()
        self.body = body
        width = body.config.hidden_size
        self.asks, self.answers = nn.Linear(width, width), nn.Linear(width, width)
        self.sharpness = nn.Parameter(torch.zeros(()))
        generator = torch.Generator().manual_seed(seed)
        for layer in (self.asks, self.answers):
            nn.init.normal_(layer.weight, 0.0, width**-0.5, generator=generator)
            nn.init.zeros_(layer.bias)

    def forward(
        self, histories: Tensor, row: Tensor, place: Tensor, candidates: Tensor, slot: Tensor
    ) -> Tensor:
        """Compare every line's end with every candidate; ``(n_lines, n_candidates)``.

        Parameters
        ----------
        histories
            Token ids, padded on the right, ``(n_histories, n_tokens)``.
        row, place
            Where the lines end, ``(n_lines,)``.
        candidates
            Token ids, padded on the right, ``(n_candidates, n_tokens)``.
        slot
            Place of each answer slot, ``(n_candidates,)``.
        """
        asked = self.asks(self.body(input_ids=histories, use_cache=False).last_hidden_state[row, place])
        states = self.body(input_ids=candidates, use_cache=False).last_hidden_state
        answered = self.answers(states[torch.arange(len(slot), device=slot.device), slot])
        scores: Tensor = asked @ answered.T * (self.sharpness.exp() / math.sqrt(asked.shape[1]))
        return scores


@dataclass(frozen=True, slots=True)
class _Batch:
    """Some windows of histories, as places of items, and the seed of what is drawn beside them."""

    windows: tuple[tuple[int, ...], ...]
    seed: int


def next_item_loss(scores: Tensor, following: Tensor, chance: Tensor) -> Tensor:
    """Return the mean cross-entropy of the item that came next, corrected for how candidates got there.

    An item that comes into the batch with a higher chance is a negative more often than others; taking the
    logarithm of the chance off its score in the loss leaves scores that estimate the preference among items
    drawn uniformly.

    Parameters
    ----------
    scores
        Shape ``(n_examples, n_candidates)``.
    following
        Place of each example's next item among the candidates.
    chance
        Chance of each candidate to be in a batch.

    Examples
    --------
    >>> scores = torch.log(torch.tensor([[0.5, 0.25]]))
    >>> round(next_item_loss(scores, torch.tensor([0]), torch.tensor([1.0, 0.5])).exp().item(), 4)
    2.0
    """
    return functional.cross_entropy(scores - chance.log(), following)


def batch_chance(counts: _Floats, examples: int, drawn: int) -> _Floats:
    """Return each item's chance to be in a batch, as a next item or as a drawn one; ``(n_items,)``.

    `counts` says how often each item is a next item, ``(n_items,)``. A batch has `examples` next items, and
    `drawn` items drawn uniformly.

    Examples
    --------
    >>> batch_chance(np.array([1.0, 3.0]), 2, 0).round(3).tolist()
    [0.393, 0.777]
    """
    expected = examples * counts / max(counts.sum(), 1.0) + drawn / len(counts)
    chance: _Floats = 1.0 - np.exp(-expected)
    return chance


def pretrain(
    body: Qwen2Model,
    items: ItemTokens,
    histories: Sequence[Sequence[int]],
    settings: CompactModel,
    folder: Path,
    seed: int,
) -> list[dict[str, float]]:
    """Train a model on which item comes next, in place; one that was killed goes on from `folder`.

    The body comes without its output layer. Histories hold places of items in the catalogue, oldest first;
    those of one item teach nothing. `settings` tells the passes over the histories and the learning rate; the
    seed decides order, what is drawn and what is dropped. `folder` holds the checkpoints of this training
    alone. Returns ``{"step", "loss"}`` at each logged step.
    """
    plan = _plan(histories, settings.pretrain_epochs, seed)
    if not plan:
        return []
    arguments = learning_arguments(folder, settings.pretrain_learning_rate, len(plan), seed)
    counts = np.zeros(len(items.lines.texts))
    for history in histories:
        np.add.at(counts, np.array(history[1:], dtype=np.int64), 1.0)
    towers = Towers(body, seed)
    towers.to(next(body.parameters()).device)
    trainer = _NextItemTrainer(
        towers, plan, lambda batch: _collate(batch, items, counts), arguments, "pre-training"
    )
    return learn(trainer, folder)


def learning_arguments(
    folder: Path, learning_rate: float, steps: int, seed: int, **settings: Any
) -> TrainingArguments:
    """Settle how a model learns before its fine-tuning, from next items and from questions.

    `steps` are updates; `settings` are further arguments of `plan_arguments`.
    """
    return plan_arguments(
        folder,
        learning_rate=learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0.05,
        weight_decay=0.1,
        adam_beta2=0.98,
        logging_steps=max(1, steps // _LOGGED_LOSSES),
        save_steps=_STEPS_UNSAVED,
        save_total_limit=1,
        seed=seed,
        **settings,
    )


def learn(trainer: Trainer, folder: Path) -> list[dict[str, float]]:
    """Train, from the last checkpoint on where there is one; give the losses that were logged."""
    with without_bars():
        trainer.train(resume_from_checkpoint=last_checkpoint(folder))
    log = trainer.state.log_history
    return [{"step": entry["step"], "loss": entry["loss"]} for entry in log if "loss" in entry]


class _NextItemTrainer(PlannedTrainer):
    """Cross-entropy of the next item among the batch's candidates."""

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, *_: Any, **__: Any
    ) -> Tensor:
        """Ask at the end of every line."""
        following, chance = inputs.pop("following"), inputs.pop("chance")
        return next_item_loss(model(**inputs), following, chance)


def _plan(histories: Sequence[Sequence[int]], epochs: float, seed: int) -> list[_Batch]:
    """Plan every batch of every pass; long histories are cut into windows at other places in each."""
    generator = np.random.default_rng(seed)
    plan: list[_Batch] = []
    for part in _passes(epochs):
        windows = [window for history in histories for window in _windows(history, generator)]
        if not windows:
            return []
        lengths = np.array([len(window) for window in windows])
        batches = shuffled_batches(lengths, _BATCH, generator)
        for rows in batches[: max(1, round(part * len(batches)))]:
            told = tuple(windows[row] for row in rows)
            plan.append(_Batch(told, int(generator.integers(2**32))))
    return plan


def _windows(history: Sequence[int], generator: np.random.Generator) -> list[tuple[int, ...]]:
    """Cut a history into runs in which every item but the first of all is once the next one."""
    stop = len(history)
    if stop > WINDOW + 1:
        stop -= int(generator.integers(WINDOW))
    windows = [] if stop == len(history) else [tuple(history[-WINDOW - 1 :])]
    while stop > 1:
        windows.append(tuple(history[max(0, stop - WINDOW - 1) : stop]))
        stop -= WINDOW
    return windows


def _collate(batch: _Batch, items: ItemTokens, counts: _Floats) -> dict[str, Tensor]:
    generator = np.random.default_rng(batch.seed)
    rows: list[list[int]] = []
    ends: list[tuple[int, int]] = []
    for number, window in enumerate(batch.windows):
        ids = list(items.head)
        for item in window[:-1]:
            ids += items.lines.thinned(item, generator)
            ends.append((number, len(ids) - 1))
        rows.append(ids)
    following = np.array([item for window in batch.windows for item in window[1:]])
    drawn = generator.integers(len(items.lines.texts), size=min(_DRAWN, len(items.lines.texts)))
    asked, places = np.unique(np.concatenate([following, drawn]), return_inverse=True)
    candidates = [items.candidates.thinned(item, generator) for item in asked]
    chance = batch_chance(counts, len(following), len(drawn))[asked]
    row, place = torch.tensor(ends).T
    return {
        "histories": pad_right(rows, 0),
        "row": row,
        "place": place,
        "candidates": pad_right(candidates, 0),
        "slot": torch.tensor([len(candidate) - 1 for candidate in candidates]),
        "following": torch.from_numpy(places[: len(following)]),
        "chance": torch.from_numpy(chance).float(),
    }


def _passes(epochs: float) -> list[float]:
    """Split a number of passes into whole ones and the part that is left.

    >>> _passes(2.5)
    [1.0, 1.0, 0.5]
    """
    whole = int(epochs)
    left = epochs - whole
    return [1.0] * whole + ([left] if left > 0 else [])
