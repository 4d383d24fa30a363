"""Users and their candidates, as token ids, into packed rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trsr.errors import ModelError
from trsr.ranking.shared_prefix.layout import Layout


@dataclass(frozen=True, slots=True)
class UserPrompts:
    """The prompts of one user: what all candidates share, and each candidate's own end.

    Parameters
    ----------
    prefix
        Token ids of the shared part; may be empty.
    suffixes
        Token ids of each candidate with the answer slot; none empty, one at least.
    """

    prefix: Sequence[int]
    suffixes: Sequence[Sequence[int]]

    @property
    def tokens(self) -> int:
        """Tokens when packed."""
        return len(self.prefix) + sum(map(len, self.suffixes))


@dataclass(frozen=True)
class Pack:
    """One packed row, ready for a model.

    Parameters
    ----------
    ids
        Token ids, shape ``(1, n_tokens)``.
    layout
        Which token belongs where.
    """

    ids: Tensor
    layout: Layout

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Pack:
        """Return the same pack on another device."""
        device = torch.device(device)
        if device == self.ids.device:
            return self
        users = [(segment.prefix, segment.fold.lengths) for segment in self.layout.segments]
        return Pack(self.ids.to(device, non_blocking=non_blocking), Layout.of(users, device))


def pack(users: Sequence[UserPrompts], device: torch.device | str = "cpu") -> Pack:
    """Put users behind each other into one row.

    Raises
    ------
    ModelError
        When there is no user, a user has no candidate, or a candidate has no token.

    Examples
    --------
    >>> packed = pack([UserPrompts([1, 2], [[3, 4], [5]])])
    >>> packed.ids.tolist(), packed.layout.positions.tolist()
    ([[1, 2, 3, 4, 5]], [0, 1, 2, 3, 2])
    """
    if not users or not all(user.suffixes and all(map(len, user.suffixes)) for user in users):
        message = (
            "a pack needs one user at least, each with one candidate at least, each of one token at least"
        )
        raise ModelError(message)
    ids = [token for user in users for part in (user.prefix, *user.suffixes) for token in part]
    sizes = [(len(user.prefix), [len(suffix) for suffix in user.suffixes]) for user in users]
    return Pack(torch.tensor([ids], device=device), Layout.of(sizes, torch.device(device)))


def share_rows(users: Sequence[UserPrompts], budget: int) -> list[list[int]]:
    """Divide users, in their order, into rows of at most `budget` tokens.

    A user that is longer than the budget has a row alone. On a CPU one user a row is
    as fast and needs the least memory (a budget of 0); a GPU wants long rows.

    Returns
    -------
    list
        Indices of the users of each row.

    Examples
    --------
    >>> share_rows([UserPrompts([1] * size, [[2]]) for size in (3, 4, 9, 1)], budget=10)
    [[0, 1], [2], [3]]
    """
    rows: list[list[int]] = []
    used = 0
    for index, user in enumerate(users):
        if not rows or used + user.tokens > budget:
            rows.append([])
            used = 0
        rows[-1].append(index)
        used += user.tokens
    return rows
