"""Users as the ranking model sees them: a summary, recent items, and candidates to rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trsr.prompts.ranking_prompt import Cut, RankingPrompt
from trsr.ranking.shared_prefix.packing import UserPrompts
from trsr.records import Item


@dataclass(frozen=True, slots=True)
class RankingUser:
    """One ranking task.

    Parameters
    ----------
    user_id
        Whose task it is.
    summary
        The preference summary; empty when there is none.
    history
        Items before the target, oldest first.
    candidates
        Items to rank.
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
    """A ranking task as token ids.

    Parameters
    ----------
    prefix
        Ids that all candidates of the user share.
    suffixes
        Ids of each candidate with the answer slot.
    target
        Place of the true next item; None when it isn't known.
    cut
        What of the user didn't fit into the prompt.
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
    """Turn ranking tasks into token ids: each prefix once, each item's suffix once."""
    encoded = []
    for user in users:
        prefix = prompt.prefix(user.summary, user.history)
        suffixes = tuple(prompt.suffix(item).ids for item in user.candidates)
        encoded.append(EncodedUser(prefix.ids, suffixes, user.target, prefix.cut))
    return encoded
