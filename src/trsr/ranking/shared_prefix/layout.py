"""Packed rows: which users share one, and where prefixes, candidates and answer slots lie in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from trsr.errors import ModelError


@dataclass(frozen=True)
class Fold:
    """Lays runs of tokens under each other: a row of runs becomes a batch of runs, and back.

    Runs of unequal length are filled up with copies of their own last token, so that
    the fill is finite and harmless wherever it is not looked at.

    Parameters
    ----------
    lengths
        Tokens of each run; none is 0.
    device
        Where the tensors lie that will be folded.

    Examples
    --------
    >>> fold = Fold((2, 1), torch.device("cpu"))
    >>> row = torch.tensor([5.0, 6.0, 7.0]).view(1, 1, 3, 1)
    >>> fold.fold(row).flatten(1).tolist()
    [[5.0, 6.0], [7.0, 7.0]]
    >>> torch.equal(fold.unfold(fold.fold(row)), row)
    True
    """

    lengths: tuple[int, ...]
    device: torch.device

    @property
    def longest(self) -> int:
        """Tokens of the longest run."""
        return max(self.lengths)

    @property
    def is_even(self) -> bool:
        """Whether all runs have one length, so that folding needs no copy."""
        return min(self.lengths) == max(self.lengths)

    @cached_property
    def ends(self) -> Tensor:
        """Place of the last token of each run, in the row, shape ``(n_runs,)``."""
        return torch.tensor(self.lengths, device=self.device).cumsum(0) - 1

    @cached_property
    def sources(self) -> Tensor:
        """Place in the row of each cell of the batch, row by row, shape ``(n_runs * longest,)``."""
        lengths = torch.tensor(self.lengths, device=self.device)
        steps = torch.arange(self.longest, device=self.device)
        return (
            self.ends[:, None] - lengths[:, None] + 1 + torch.minimum(steps, lengths[:, None] - 1)
        ).flatten()

    @cached_property
    def places(self) -> Tensor:
        """Cell of the flattened batch where each token of the row went, shape ``(n_tokens,)``."""
        return self.is_token.flatten().nonzero().flatten()

    @cached_property
    def is_token(self) -> Tensor:
        """True where the batch holds a token, False where it holds fill, shape ``(n_runs, longest)``."""
        lengths = torch.tensor(self.lengths, device=self.device)
        return torch.arange(self.longest, device=self.device) < lengths[:, None]

    def fold(self, row: Tensor) -> Tensor:
        """Turn ``(1, heads, n_tokens, width)`` into ``(n_runs, heads, longest, width)``."""
        runs = row[0] if self.is_even else row[0].index_select(1, self.sources)
        return torch.unflatten(runs, 1, (len(self.lengths), self.longest)).transpose(0, 1)

    def unfold(self, batch: Tensor) -> Tensor:
        """Turn ``(n_runs, heads, longest, ...)`` into ``(1, heads, n_tokens, ...)``."""
        runs = batch.transpose(0, 1).flatten(1, 2)
        return (runs if self.is_even else runs.index_select(1, self.places)).unsqueeze(0)


@dataclass(frozen=True)
class Segment:
    """One user's part of a packed row: the prefix, then the candidates one after another.

    `start` is the place of the prefix's first token in the row, `prefix` its number of tokens, which may be
    0; `fold` has the candidates' runs. Where `is_held`, the prefix is not in the row: its keys are held from
    an earlier one.
    """

    start: int
    prefix: int
    fold: Fold
    is_held: bool = False

    @property
    def middle(self) -> int:
        """Place of the first candidate's first token."""
        return self.start if self.is_held else self.start + self.prefix

    @property
    def stop(self) -> int:
        """Place behind the last candidate's last token."""
        return self.middle + sum(self.fold.lengths)

    @property
    def shared(self) -> slice:
        """Places of the prefix's tokens in the row; none when it is held."""
        return slice(self.start, self.middle)

    @property
    def suffixes(self) -> slice:
        """Places of all candidates' tokens in the row."""
        return slice(self.middle, self.stop)


@dataclass(frozen=True)
class Layout:
    """A packed row: the segments of one or more users in their order, without gaps."""

    segments: tuple[Segment, ...]
    device: torch.device

    @classmethod
    def of(
        cls,
        users: Sequence[tuple[int, Sequence[int]]],
        device: torch.device,
        *,
        is_held: bool | Sequence[bool] = False,
    ) -> Layout:
        """Lay out users, each given as its prefix's tokens and its candidates' tokens.

        With `is_held`, of all or of each, prefixes are counted in the positions, but are not in the row.

        Examples
        --------
        >>> layout = Layout.of([(3, [2, 1])], torch.device("cpu"))
        >>> layout.positions.tolist(), layout.answers.tolist()
        ([0, 1, 2, 3, 4, 3], [4, 5])
        """
        segments = []
        start = 0
        for (prefix, lengths), held in zip(users, _each(is_held, len(users)), strict=True):
            segments.append(Segment(start, prefix, Fold(tuple(lengths), device), held))
            start = segments[-1].stop
        return cls(tuple(segments), device)

    @property
    def tokens(self) -> int:
        """Tokens of the whole row."""
        return self.segments[-1].stop

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt in the row: a prefix with its longest candidate."""
        return max(segment.prefix + segment.fold.longest for segment in self.segments)

    @cached_property
    def positions(self) -> Tensor:
        """Position of every token in its own prompt: candidates all continue from their prefix."""
        parts = []
        for segment in self.segments:
            lengths = torch.tensor(segment.fold.lengths)
            begins = torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
            parts.append(torch.arange(segment.middle - segment.start))
            parts.append(segment.prefix + torch.arange(len(begins)) - begins)
        return torch.cat(parts).to(self.device)

    @cached_property
    def answers(self) -> Tensor:
        """Place of every candidate's last token, after which the answer is read, in order."""
        return torch.cat([segment.middle + segment.fold.ends for segment in self.segments])

    @cached_property
    def users(self) -> Fold:
        """The row's users as runs: the prefix, where it is in the row, and all candidates."""
        return Fold(tuple(segment.stop - segment.start for segment in self.segments), self.device)

    @cached_property
    def slots(self) -> Fold:
        """The answer slots as runs: those of a user behind each other."""
        return Fold(tuple(len(segment.fold.lengths) for segment in self.segments), self.device)

    def visible(self, window: int | None, *, at_answers: bool) -> Tensor:
        """Say what each query sees, users under each other: ``(n_users, 1, n_queries, n_keys)``.

        Queries are all tokens of a user, or one at each of its answer slots; keys are those of a prefix that
        is held, then all tokens of the user. Both are filled up as `Fold` does. A query sees its prefix and
        its own candidate up to itself, and no further back than `window` positions, its own included.

        Examples
        --------
        >>> layout = Layout.of([(1, [2, 1])], torch.device("cpu"))
        >>> layout.visible(None, at_answers=True)[0, 0].int().tolist()
        [[1, 1, 1, 0], [1, 0, 0, 1]]
        """
        if (window, at_answers) not in self._visible:
            self._visible[window, at_answers] = self._seen(window, at_answers=at_answers)
        return self._visible[window, at_answers]

    @cached_property
    def _visible(self) -> dict[tuple[int | None, bool], Tensor]:
        return {}

    def _seen(self, window: int | None, *, at_answers: bool) -> Tensor:
        runs = torch.cat(
            [
                torch.repeat_interleave(
                    torch.arange(len(segment.fold.lengths) + 1),
                    torch.tensor([segment.middle - segment.start, *segment.fold.lengths]),
                )
                for segment in self.segments
            ]
        ).to(self.device)
        shape = len(self.segments), -1
        key_run, key_at = (part[self.users.sources].view(shape) for part in (runs, self.positions))
        query_run, query_at = key_run, key_at
        if at_answers:
            query_run, query_at = (
                part[self.answers][self.slots.sources].view(shape) for part in (runs, self.positions)
            )
        is_key = self.users.is_token
        if self.segments[0].is_held:
            prefix = self.segments[0].prefix
            key_run, is_key = (
                functional.pad(part, (prefix, 0), value=fill) for part, fill in ((key_run, 0), (is_key, 1))
            )
            key_at = torch.cat(
                [torch.arange(prefix, device=self.device).expand(len(key_at), -1), key_at], dim=1
            )
        distance = query_at[:, :, None] - key_at[:, None]
        own = (key_run[:, None] == 0) | (key_run[:, None] == query_run[:, :, None])
        seen = is_key[:, None] & own & (distance >= 0)
        return (seen if window is None else seen & (distance < window))[:, None]


@dataclass(frozen=True, slots=True)
class UserPrompts:
    """The prompts of one user as token ids: what all candidates share, and each candidate's own end.

    The prefix may be empty. Suffixes have the answer slot; there is one at least, and none is empty.
    """

    prefix: Sequence[int]
    suffixes: Sequence[Sequence[int]]

    @property
    def tokens(self) -> int:
        """Tokens when packed."""
        return len(self.prefix) + sum(map(len, self.suffixes))


@dataclass(frozen=True)
class Pack:
    """One packed row, ready for a model; `ids` are ``(1, n_tokens)``."""

    ids: Tensor
    layout: Layout

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Pack:
        """Return the same pack on another device."""
        device = torch.device(device)
        if device == self.ids.device:
            return self
        users = [(segment.prefix, segment.fold.lengths) for segment in self.layout.segments]
        is_held = [segment.is_held for segment in self.layout.segments]
        layout = Layout.of(users, device, is_held=is_held)
        return Pack(self.ids.to(device, non_blocking=non_blocking), layout)


def pack(
    users: Sequence[UserPrompts],
    device: torch.device | str = "cpu",
    *,
    is_held: bool | Sequence[bool] = False,
) -> Pack:
    """Put users behind each other into one row.

    With `is_held`, of all or of each, prefixes are left out of the row; their keys are held. Raises
    `ModelError` when there is no user, a user has no candidate, or a candidate has no token.

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
    each = zip(users, _each(is_held, len(users)), strict=True)
    parts = [part for user, held in each for part in ((() if held else user.prefix), *user.suffixes)]
    ids = [token for part in parts for token in part]
    sizes = [(len(user.prefix), [len(suffix) for suffix in user.suffixes]) for user in users]
    return Pack(torch.tensor([ids], device=device), Layout.of(sizes, torch.device(device), is_held=is_held))


def _each(is_held: bool | Sequence[bool], count: int) -> Sequence[bool]:
    return [is_held] * count if isinstance(is_held, bool) else is_held


def share_rows(users: Sequence[UserPrompts], budget: int) -> list[list[int]]:
    """Divide users, in their order, into rows of at most `budget` tokens, each a list of users' indices.

    A user that is longer than the budget has a row alone.

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
