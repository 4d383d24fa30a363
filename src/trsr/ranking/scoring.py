"""p(yes) of candidates: the answer tokens, users as token ids, and scores of many users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trsr.errors import ModelError
from trsr.progress import Progress
from trsr.prompts.ranking_prompt import Cut, Encode, RankingPrompt
from trsr.ranking.shared_prefix.forward import PrefixMemory, remembered_logits
from trsr.ranking.shared_prefix.layout import UserPrompts
from trsr.ranking.shared_prefix.strategy import Path, Plan, candidate_logits, joint_budget
from trsr.records import Item


@dataclass(frozen=True, slots=True)
class Answers:
    """Token ids of the two answers as they follow the answer slot."""

    yes: int
    no: int


def find_answers(encode: Encode, slot: str, words: tuple[str, str], unknown: int | None = None) -> Answers:
    """Find the one token that each answer word is after the answer slot.

    Parameters
    ----------
    slot
        The prompt's last part, which the answer follows.
    words
        The words for yes and no.
    unknown
        The tokenizer's token for what it doesn't know, where it has one.

    Raises
    ------
    ModelError
        When a word is not exactly one known token there, saying what was got, or when
        both words are the same token.
    """
    yes, no = (_single_token(encode, slot, word, unknown) for word in words)
    if yes == no:
        message = (
            f"prompt.answers: {words[0]!r} and {words[1]!r} are the same token ({yes}) of this model; "
            "set others"
        )
        raise ModelError(message)
    return Answers(yes, no)


def _single_token(encode: Encode, slot: str, word: str, unknown: int | None) -> int:
    space = "" if slot[-1:].isspace() else " "
    before, after = encode([slot, f"{slot}{space}{word}"])
    new = after[len(before) :]
    if after[: len(before)] != before:
        got = f"the answer changes the tokens before it (they end in {before[-3:]}, then in {after[-3:]})"
    elif len(new) != 1:
        got = f"it is {len(new)} tokens {new}"
    elif new[0] == unknown:
        got = f"it is the unknown token ({unknown})"
    else:
        return new[0]
    message = (
        f"prompt.answers: {word!r} must be one token of this model after {slot[-24:]!r}, but {got}; "
        "set prompt.answers to two words that are one token each, or take another model"
    )
    raise ModelError(message)


@dataclass(frozen=True, slots=True)
class RankingUser:
    """One ranking task.

    Parameters
    ----------
    summary
        The preference summary; empty when there is none.
    history
        Items before the target, oldest first.
    target
        Place of the true next item among the candidates; None when it isn't known.
    """

    user_id: str
    summary: str
    history: tuple[Item, ...]
    candidates: tuple[Item, ...]
    target: int | None = None


@dataclass(frozen=True, slots=True)
class EncodedUser:
    """A ranking task as token ids: the prefix that all candidates share, and suffixes with the answer slot.

    `target` is the true next item's place, None when it isn't known; `cut` is what didn't fit into the
    prompt.
    """

    prefix: tuple[int, ...]
    suffixes: tuple[tuple[int, ...], ...]
    target: int | None
    cut: Cut

    @property
    def prompts(self) -> UserPrompts:
        """All candidates' prompts."""
        return UserPrompts(self.prefix, self.suffixes)

    def row(self, candidate: int) -> list[int]:
        """Join the prefix and one suffix: the prompt of one candidate alone."""
        return [*self.prefix, *self.suffixes[candidate]]

    def ask(self, candidates: Sequence[int]) -> UserPrompts:
        """Return the prompts of some candidates, by their places."""
        return UserPrompts(self.prefix, [self.suffixes[place] for place in candidates])


def encode_users(users: Sequence[RankingUser], prompt: RankingPrompt) -> list[EncodedUser]:
    """Turn ranking tasks into token ids: each prefix once, each suffix once."""
    encoded = []
    for user in users:
        prefix = prompt.prefix(user.summary, user.history)
        suffixes = tuple(prompt.suffix(item, user.history).ids for item in user.candidates)
        encoded.append(EncodedUser(prefix.ids, suffixes, user.target, prefix.cut))
    return encoded


_USERS_A_CALL: Final = 32
_PLAIN_USERS_A_CALL: Final = 4
"""Of models that take one prompt a candidate, whose progress would else be told too seldom."""


def score(
    model: nn.Module,
    users: Sequence[EncodedUser],
    answers: Answers,
    plan: Plan,
    batch_tokens: int,
    *,
    memory: PrefixMemory | None = None,
    title: str | None = None,
) -> list[NDArray[np.float64]]:
    """Return p(yes) per user and candidate, one array of shape ``(n_candidates,)`` a user.

    p is the softmax over the two answers' logits, computed in float32. A score doesn't depend on what was
    computed beside it, up to rounding. Candidates of a user with equal prompts are computed once, so that
    they tie.

    Parameters
    ----------
    batch_tokens
        Tokens a batch, padding included, of models that take one prompt per candidate.
    memory
        Where prefixes are kept for a user's next request; None where nobody asks twice.
    title
        What the progress says; None to say nothing.
    """
    was_training = model.training
    if was_training:  # going through all modules takes longer than some of them do
        model.eval()
    scores: list[NDArray[np.float64]] = []
    together = _PLAIN_USERS_A_CALL if plan.path is Path.PLAIN else _USERS_A_CALL
    bar = Progress(title or "", len(users), "users", shown=title is not None)
    with torch.no_grad(), bar:
        for start in range(0, len(users), together):
            part = users[start : start + together]
            distinct = [list(dict.fromkeys(user.suffixes)) for user in part]
            prompts = [UserPrompts(user.prefix, own) for user, own in zip(part, distinct, strict=True)]
            logits = _logits(model, prompts, answers, plan, batch_tokens, memory)
            p_yes = iter(logits.softmax(dim=-1)[:, 0].double().tolist())
            for user, own in zip(part, distinct, strict=True):
                told = {suffix: next(p_yes) for suffix in own}
                scores.append(np.array([told[suffix] for suffix in user.suffixes]))
            bar.advance(len(part))
    if was_training:
        model.train()
    return scores


def _logits(
    model: nn.Module,
    prompts: Sequence[UserPrompts],
    answers: Answers,
    plan: Plan,
    batch_tokens: int,
    memory: PrefixMemory | None,
) -> Tensor:
    words = (answers.yes, answers.no)
    if memory is not None and plan.path is Path.PACKED:
        return remembered_logits(
            model, prompts, words, budget=joint_budget(model), trims=plan.trims, memory=memory
        )
    return candidate_logits(
        model, prompts, words, plan, budget=batch_tokens if plan.path is Path.PLAIN else None
    )
