"""Three ways to score and to train one user's candidates, each as its users would write it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trsr.ranking.shared_prefix.layout import UserPrompts
from trsr.ranking.shared_prefix.strategy import Plan, candidate_logits

YES, NO = 5, 6
PAPER_LENGTH = 2048
PAPER_TRAINING_ROWS = 8
ROWS = 7


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to compute.

    Parameters
    ----------
    name
        How the tables call it.
    score
        Model and prompts to the answers' logits, shape ``(n_candidates, 2)``.
    train
        Model and prompts, the first the positive, to the mean loss; gradients are left in the model.
    """

    name: str
    score: Callable[[nn.Module, UserPrompts], Tensor]
    train: Callable[[nn.Module, UserPrompts], float]


def paper_score(model: nn.Module, user: UserPrompts) -> Tensor:
    """One prompt at a time, padded to 2,048 tokens with a mask, logits at every position."""
    rows = []
    for suffix in user.suffixes:
        prompt = [*user.prefix, *suffix]
        ids = torch.zeros((1, PAPER_LENGTH), dtype=torch.long)
        ids[0, : len(prompt)] = torch.tensor(prompt)
        mask = (torch.arange(PAPER_LENGTH) < len(prompt)).long()[None]
        rows.append(model(input_ids=ids, attention_mask=mask).logits[0, len(prompt) - 1, [YES, NO]])
    return torch.stack(rows)


def paper_train(model: nn.Module, user: UserPrompts) -> float:
    """Prompt and answer as text to be learned whole: padded to the longest, loss over all tokens."""
    prompts = [
        [*user.prefix, *suffix, answer] for suffix, answer in zip(user.suffixes, _answers(user), strict=True)
    ]
    loss = 0.0
    for start in range(0, len(prompts), PAPER_TRAINING_ROWS):
        batch = prompts[start : start + PAPER_TRAINING_ROWS]
        ids, ends = _pad(batch)
        mask = torch.arange(ids.shape[1]) <= ends[:, None]
        output = model(input_ids=ids, attention_mask=mask.long(), labels=ids.masked_fill(~mask, -100))
        share = len(batch) / len(prompts)
        (output.loss * share).backward()
        loss += output.loss.item() * share
    return loss


def good_score(model: nn.Module, user: UserPrompts) -> Tensor:
    """Sorted by length, batches of seven padded on the right without a mask, logits at the ends only."""
    logits = torch.empty(len(user.suffixes), 2)
    for batch in _sorted_batches(user):
        ids, ends = _pad([[*user.prefix, *user.suffixes[row]] for row in batch])
        logits[batch] = _at_ends(model, ids, ends)[:, [YES, NO]]
    return logits


def good_train(model: nn.Module, user: UserPrompts) -> float:
    """The same batches, loss on the answers only, gradients accumulated."""
    answers = torch.tensor(_answers(user))
    loss = 0.0
    for batch in _sorted_batches(user):
        ids, ends = _pad([[*user.prefix, *user.suffixes[row]] for row in batch])
        part = cross_entropy(_at_ends(model, ids, ends), answers[batch], reduction="sum") / len(answers)
        part.backward()
        loss += part.item()
    return loss


def ours(plan: Plan) -> Contender:
    """All candidates in one row behind their prefix."""

    def score(model: nn.Module, user: UserPrompts) -> Tensor:
        return candidate_logits(model, [user], [YES, NO], plan)

    def train(model: nn.Module, user: UserPrompts) -> float:
        loss = cross_entropy(candidate_logits(model, [user], None, plan), torch.tensor(_answers(user)))
        loss.backward()
        return loss.item()

    return Contender("ours", score, train)


PAPER = Contender("paper style", paper_score, paper_train)
GOOD = Contender("good practice", good_score, good_train)


def _answers(user: UserPrompts) -> list[int]:
    return [YES] + [NO] * (len(user.suffixes) - 1)


def _sorted_batches(user: UserPrompts) -> list[list[int]]:
    order = sorted(range(len(user.suffixes)), key=lambda row: len(user.suffixes[row]))
    return [order[start : start + ROWS] for start in range(0, len(order), ROWS)]


def _pad(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    ids = torch.zeros((len(rows), max(map(len, rows))), dtype=torch.long)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row)
    return ids, torch.tensor([len(row) - 1 for row in rows])


def _at_ends(model: nn.Module, ids: Tensor, ends: Tensor) -> Tensor:
    kept, place = torch.unique(ends, return_inverse=True)
    logits: Tensor = model(input_ids=ids, use_cache=False, logits_to_keep=kept).logits
    return logits[torch.arange(len(ids)), place]
