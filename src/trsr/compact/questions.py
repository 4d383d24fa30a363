"""Rehearsal: yes to the item that comes next after any place of a history, no to others.

The compact model comes from its pre-training with states of histories and states of items
that are near where they belong together. Here it learns to say so: in the ranking prompt
itself, packed, the next item stands against many others, and the margins between yes and
no are compared as they are in fine-tuning. No summaries are shown: a user's summary tells
of items that come after the place that is asked about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import TrainingArguments

from trsr.compact.next_item import WINDOW, learn, learning_arguments
from trsr.hf.trainer import PlannedTrainer
from trsr.prompts.words import joined, spaced
from trsr.ranking.ranker import Ranker
from trsr.ranking.shared_prefix.layout import UserPrompts
from trsr.ranking.shared_prefix.strategy import candidate_logits
from trsr.ranking.training import listwise_loss
from trsr.records import Item

_OTHERS: Final = 20
_BATCH: Final = 16
_LEARNING_RATE: Final = 1e-3

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Question:
    """One place of one history, and the items that are asked about.

    Both `shown` (the items before, oldest first) and `asked` (the first came next) hold places of items.
    `number` is its place among the questions; it decides which words are left out.
    """

    shown: tuple[int, ...]
    asked: tuple[int, ...]
    number: int = 0


def draw_questions(
    histories: Sequence[Sequence[int]], items: int, count: int, seed: int, popular: float = 0.25
) -> list[Question]:
    """Draw questions about histories: each place once before any comes again.

    Histories hold places of items, oldest first; the seed decides places and items. The others asked about
    are drawn from all `items` of the catalogue but the history's own, a share `popular` of them by
    popularity, so that popularity alone doesn't answer; the rest uniformly.

    Examples
    --------
    >>> questions = draw_questions([[0, 1, 2]], 6, 2, seed=0)
    >>> sorted((question.shown, question.asked[0]) for question in questions)
    [((0,), 1), ((0, 1), 2)]
    >>> {item for question in questions for item in question.asked[1:]} <= {3, 4, 5}
    True
    """
    generator = np.random.default_rng(seed)
    places = [(row, place) for row, history in enumerate(histories) for place in range(1, len(history))]
    if not places or not count:
        return []
    counts = np.ones(items)
    for history in histories:
        np.add.at(counts, np.array(history, dtype=np.int64), 1.0)
    edges = np.cumsum(counts)
    rounds = -(-count // len(places))
    order = np.concatenate([generator.permutation(len(places)) for _ in range(rounds)])[:count]
    questions = []
    for number, (row, place) in enumerate(places[chosen] for chosen in order):
        history = histories[row]
        others = _draw(edges, set(history), popular, generator)
        shown = tuple(history[max(0, place - WINDOW) : place])
        questions.append(Question(shown, (history[place], *others), number))
    return questions


def rehearse(
    ranker: Ranker,
    catalogue: Sequence[Item],
    questions: Sequence[Question],
    folder: Path,
    seed: int,
    dropped: float = 0.0,
) -> list[dict[str, float]]:
    """Train a ranker on questions, in place; one that was killed goes on from `folder`.

    The ranker has a plain model, all of whose weights are trained. Each question of `draw_questions` is asked
    once, and names items by their place in the catalogue. `folder` holds the checkpoints of this training
    alone; the seed is the Trainer's. `dropped` is the share of an item's words left out each time it is read,
    so that no single word decides. Returns ``{"step", "loss"}`` at each logged step.
    """
    plan = [questions[start : start + _BATCH] for start in range(0, len(questions), _BATCH)]
    if not plan:
        return []
    arguments = learning_arguments(folder, _LEARNING_RATE, len(plan), seed)
    trainer = _RehearsalTrainer(ranker, catalogue, plan, arguments, dropped)
    losses = learn(trainer, folder)
    ranker.model.eval()
    return losses


class _RehearsalTrainer(PlannedTrainer):
    """The next item against the others, by the margins between yes and no."""

    def __init__(
        self,
        ranker: Ranker,
        catalogue: Sequence[Item],
        plan: Sequence[Sequence[Question]],
        arguments: TrainingArguments,
        dropped: float,
    ) -> None:
        self._dropped = dropped
        self._ranker = ranker
        self._catalogue = catalogue
        super().__init__(ranker.model, plan, self._collate, arguments, "rehearsal")

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, *_: Any, **__: Any
    ) -> Tensor:
        """Compare the margins of each question's items."""
        users, answers = inputs["users"], self._ranker.answers
        logits = candidate_logits(model, users, (answers.yes, answers.no), self._ranker.plan)
        return listwise_loss(logits, [len(user.suffixes) for user in users], [0] * len(users))

    def _collate(self, batch: Sequence[Question]) -> dict[str, Any]:
        return {"users": [self._prompts(question) for question in batch]}

    def _prompts(self, question: Question) -> UserPrompts:
        prompt, generator = self._ranker.prompt, np.random.default_rng(question.number)
        shown, asked = (
            [_thin(self._catalogue[place], self._dropped, generator) for place in places]
            for places in (question.shown, question.asked)
        )
        return UserPrompts(prompt.prefix("", shown).ids, [prompt.suffix(item).ids for item in asked])


def _thin(item: Item, dropped: float, generator: np.random.Generator) -> Item:
    """Leave out some of an item's words, never all words of a field."""
    if not dropped:
        return item
    fields = {}
    for name, text in item.fields.items():
        words = spaced(text).split()
        chances = generator.random(len(words))
        kept = [word for word, chance in zip(words, chances, strict=True) if chance >= dropped]
        fields[name] = joined(kept or words)
    return Item(item.id, fields)


def _draw(edges: _Floats, taken: set[int], share: float, generator: np.random.Generator) -> list[int]:
    """Draw items that were not taken, each once; fewer where the catalogue is small."""
    size = 2 * _OTHERS
    popular = np.searchsorted(edges, generator.random(size) * edges[-1], side="right")
    uniform = generator.integers(len(edges), size=size)
    drawn = np.where(generator.random(size) < share, popular, uniform)
    return [item for item in dict.fromkeys(drawn.tolist()) if item not in taken][:_OTHERS]
