"""Pre-training of the compact model: item texts, and training histories told as a game of yes and no.

A history becomes documents in the very form of the ranking prompt: a few items
stand as recent items, then every later item is asked about as a candidate, mixed
with items that the user did not choose, each followed by its answer. One
document teaches the catalogue's words, what goes with what, and some dozens of
answers, at the price of reading the history once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from trsr.config.ranking import CompactModel
from trsr.models.batches import pad_right, shuffled_batches
from trsr.models.planned_trainer import PlannedTrainer, plan_arguments
from trsr.prompts.ranking_prompt import RankingPrompt
from trsr.records import Item

_BATCH_TOKENS: Final = 1024
_LOGGED_LOSSES: Final = 200
_TEXT_WEIGHT: Final = 0.5
_SUMMARY_SHARE: Final = 0.75


@dataclass(frozen=True, slots=True)
class Document:
    """One document: its token ids, and the places of answers among them."""

    ids: NDArray[np.int32]
    answers: NDArray[np.int32]


class GameOfAnswers:
    """Tells histories as prompts with many candidates, each answered.

    Parameters
    ----------
    prompt
        The ranking prompt's builder.
    answers
        Token ids of yes and no.
    line_break
        Token ids that stand between an answer and the next candidate.
    catalogue
        Items that the other candidates are drawn from.
    negatives
        Candidates answered no for each one answered yes.
    """

    def __init__(
        self,
        prompt: RankingPrompt,
        answers: tuple[int, int],
        line_break: Sequence[int],
        catalogue: Sequence[Item],
        negatives: int = 2,
    ) -> None:
        self._prompt = prompt
        self._answers = answers
        self._line_break = tuple(line_break)
        self._catalogue = catalogue
        self._negatives = negatives

    def document(self, history: Sequence[Item], summary: str, generator: np.random.Generator) -> Document:
        """Tell one history from a random place on, as far as the prompt's budget reaches.

        Parameters
        ----------
        history
            At least two items, oldest first.
        summary
            The user's preference summary; it is left out at random, so that the model
            learns to do with and without.
        generator
            Source of chance.
        """
        settings = self._prompt.prompting
        start = int(generator.integers(1, len(history)))
        recent = history[max(0, start - settings.recent_items) : start]
        known = generator.random() < _SUMMARY_SHARE
        ids = list(self._prompt.prefix(summary if known else "", recent).ids)
        chosen = {item.id for item in history}
        places: list[int] = []
        for item in history[start:]:
            turn = self._turn(item, chosen, generator)
            if places and len(ids) + sum(map(len, turn)) > settings.max_tokens:
                break
            for question in turn:
                ids += question
                places.append(len(ids) - len(self._line_break) - 1)
        return Document(np.array(ids, np.int32), np.array(places, np.int32))

    def _turn(self, item: Item, chosen: set[str], generator: np.random.Generator) -> list[list[int]]:
        """Ask about the item that came next and about others, in random order."""
        drawn = generator.integers(len(self._catalogue), size=self._negatives)
        others = [other for place in drawn if (other := self._catalogue[place]).id not in chosen]
        asked = [(item, 0), *((other, 1) for other in others)]
        return [
            [*self._prompt.suffix(asked[place][0]).ids, self._answers[asked[place][1]], *self._line_break]
            for place in generator.permutation(len(asked))
        ]


def pretrain(
    model: nn.Module,
    game: GameOfAnswers,
    histories: Sequence[Sequence[Item]],
    summaries: Sequence[str],
    settings: CompactModel,
    folder: Path,
    seed: int,
) -> list[dict[str, float]]:
    """Train a fresh compact model on the catalogue's texts and on training histories, in place.

    Parameters
    ----------
    model
        A model with random weights.
    game
        Tells the histories.
    histories, summaries
        Training users' items, oldest first, and their preference summaries.
    settings
        Passes over the histories, and the learning rate.
    folder
        Scratch folder for the Trainer.
    seed
        Decides order and drawn items.

    Returns
    -------
    list
        ``{"step", "loss"}`` at each logged step.
    """
    generator = np.random.default_rng(seed)
    documents: list[Document] = []
    batches: list[list[int]] = []
    for part in _passes(settings.pretrain_epochs):
        users = generator.permutation(len(histories))[: round(part * len(histories))]
        fresh = [game.document(histories[user], summaries[user], generator) for user in users]
        lengths = np.array([len(document.ids) for document in fresh])
        size = max(1, _BATCH_TOKENS // int(lengths.mean()))
        shuffled = shuffled_batches(lengths, size, generator)
        batches += [[len(documents) + int(row) for row in rows] for rows in shuffled]
        documents += fresh
    if not batches:
        return []
    arguments = plan_arguments(
        folder,
        learning_rate=settings.pretrain_learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0.05,
        weight_decay=0.01,
        adam_beta2=0.98,
        logging_steps=max(1, len(batches) // _LOGGED_LOSSES),
        save_strategy="no",
        seed=seed,
    )

    def collate(rows: list[int]) -> dict[str, Tensor]:
        return _collate([documents[row] for row in rows])

    trainer = _Pretrainer(model, batches, collate, arguments, "pre-training")
    trainer.train()
    log = trainer.state.log_history
    return [{"step": entry["step"], "loss": entry["loss"]} for entry in log if "loss" in entry]


class _Pretrainer(PlannedTrainer):
    """Cross-entropy of the answers, and of the texts at half the weight."""

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Tensor], return_outputs: bool = False, *_: Any, **__: Any
    ) -> Tensor:
        """Weigh an answer as much as all the text around it would, were it as long."""
        ids, answers, inside = inputs["ids"], inputs["answers"], inputs["inside"]
        logits = model(input_ids=ids, use_cache=False).logits
        asked = inside[:, 1:]
        losses = functional.cross_entropy(logits[:, :-1][asked].float(), ids[:, 1:][asked], reduction="none")
        is_answer = answers[:, 1:][asked]
        answer_loss = losses[is_answer].mean()
        return answer_loss + _TEXT_WEIGHT * losses[~is_answer].mean()


def _collate(documents: Sequence[Document]) -> dict[str, Tensor]:
    ids = pad_right([document.ids.tolist() for document in documents], 0)
    answers = torch.zeros_like(ids, dtype=torch.bool)
    inside = torch.zeros_like(ids, dtype=torch.bool)
    for row, document in enumerate(documents):
        answers[row, torch.from_numpy(document.answers).long()] = True
        inside[row, : len(document.ids)] = True
    return {"ids": ids, "answers": answers, "inside": inside}


def _passes(epochs: float) -> list[float]:
    """Split a number of passes into whole ones and the part that is left.

    >>> _passes(2.5)
    [1.0, 1.0, 0.5]
    """
    whole = int(epochs)
    left = epochs - whole
    return [1.0] * whole + ([left] if left > 0 else [])
