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
        is_held = self.layout.segments[0].is_held
        layout = Layout.of(users, device, is_held=is_held)
        return Pack(self.ids.to(device, non_blocking=non_blocking), layout)


def pack(users: Sequence[UserPrompts], device: torch.device | str = "cpu", *, is_held: bool = False) -> Pack:
    """Put users behind each other into one row.

    Parameters
    ----------
    users
        Prompts of the users.
    device
        Where the row shall lie.
    is_held
        Leave the prefixes out of the row; their keys are held from an earlier one.

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
    parts = [part for user in users for part in ((() if is_held else user.prefix), *user.suffixes)]
    ids = [token for part in parts for token in part]
    sizes = [(len(user.prefix), [len(suffix) for suffix in user.suffixes]) for user in users]
    return Pack(torch.tensor([ids], device=device), Layout.of(sizes, torch.device(device), is_held=is_held))


def share_rows(users: Sequence[UserPrompts], budget: int) -> list[list[int]]:
    """Divide users, in their order, into rows of at most `budget` tokens.

    A user that is longer than the budget has a row alone.

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


def divide(user: UserPrompts, budget: int) -> list[UserPrompts]:
    """Divide a user's candidates, in their order, into groups of about equal tokens, `budget` at most.

    A candidate that is longer than the budget is a group alone.

    Examples
    --------
    >>> groups = divide(UserPrompts([1, 2], [[3, 4], [5], [6], [7, 8]]), budget=4)
    >>> [group.suffixes for group in groups]
    [[[3, 4], [5]], [[6], [7, 8]]]
    """
    total = sum(map(len, user.suffixes))
    fair = total / -(-total // budget)
    groups: list[list[Sequence[int]]] = []
    used = 0
    for suffix in user.suffixes:
        # Judged by its middle, so that groups are fair on the average and not one token over each.
        if not groups or used + len(suffix) > budget or used + len(suffix) / 2 > fair:
            groups.append([])
            used = 0
        groups[-1].append(suffix)
        used += len(suffix)
    return [UserPrompts(user.prefix, group) for group in groups]


def factor(user: UserPrompts) -> UserPrompts:
    """Move what all candidates begin with into the prefix; the prompts stay the same.

    Examples
    --------
    >>> factor(UserPrompts([1], [[7, 8, 2], [7, 8, 3, 4]]))
    UserPrompts(prefix=[1, 7, 8], suffixes=[[2], [3, 4]])
    """
    first, last = min(map(list, user.suffixes)), max(map(list, user.suffixes))
    longest = min(map(len, user.suffixes)) - 1
    common = 0
    while common < longest and first[common] == last[common]:
        common += 1
    if not common or len(user.suffixes) == 1:
        return user
    return UserPrompts([*user.prefix, *first[:common]], [suffix[common:] for suffix in user.suffixes])
