"""The ranking prompt: one builder for training, scoring and serving.

A prompt has two parts. Everything about the user is the *prefix* (instruction,
preference summary, recent items), the candidate and the answer slot are the
*suffix*. Each part becomes token ids on its own and the ids are joined, so the
ids of a suffix depend on the item alone and a user's candidates share every id
of the prefix. Where `nearest_items` asks for it, the suffix also tells which items of the
history are like the candidate: the one thing of the user that is told apart for each.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Final

from trsr.config.summary import Prompting
from trsr.errors import ConfigError
from trsr.prompts.item_text import SEPARATOR, Tokens, item_line, neutralise
from trsr.prompts.nearest import ALIKE, Near, Nearness
from trsr.prompts.templates import Templates
from trsr.records import Item

Encode = Callable[[Sequence[str]], list[list[int]]]
"""Texts to the token ids of each, without special tokens."""

_CACHED_ITEMS: Final = 1 << 17
_CACHED_USERS: Final = 1 << 12


@dataclass(frozen=True, slots=True)
class Cut:
    """What did not fit: recent items, left out from the oldest on, and tokens of the summary's end."""

    recent_items: int = 0
    summary_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Prefix:
    """The user's part of a prompt, as token ids and as a person reads it, and what did not fit.

    The ids begin with the model's leading special token where it wants one.
    """

    ids: tuple[int, ...]
    text: str
    cut: Cut


@dataclass(frozen=True, slots=True)
class Suffix:
    """The candidate's part of a prompt, as token ids and as a person reads it; ends with the answer slot."""

    ids: tuple[int, ...]
    text: str


class RankingPrompt:
    """Builds both parts of the ranking prompt within one token budget.

    The longest possible suffix is set aside first; what is left is the prefix's.
    A prefix that is longer loses its oldest recent items, then the end of its
    summary. The candidate and the answer slot are never cut. Raises ConfigError when
    the budget doesn't even hold the instruction and one candidate.

    Parameters
    ----------
    encode
        Texts to token ids of the ranking model.
    tokens
        Counts and cuts by the same tokens.
    item_tokens
        Cap of an item's line.
    leading
        Special tokens that the model wants before the text.
    terse
        Take the short wording that the compact model is trained on from the start.
    nearness
        Knows which items are alike; needed where `prompting.nearest_items` are told.
    """

    def __init__(
        self,
        templates: Templates,
        encode: Encode,
        tokens: Tokens,
        prompting: Prompting,
        *,
        item_tokens: int,
        leading: tuple[int, ...] = (),
        terse: bool = False,
        nearness: Nearness | None = None,
    ) -> None:
        self.templates = templates
        self.prompting = prompting
        self.item_tokens = item_tokens
        self.leading = leading
        self.terse = terse
        self._encode = encode
        self._tokens = tokens
        self._prefix_name = "rank_compact_prefix" if terse else "rank_prefix"
        self._suffix_name = "rank_compact_suffix" if terse else "rank_suffix"
        self._nearest_name = "rank_compact_nearest" if terse else "rank_nearest"
        self.nearness = nearness if prompting.nearest_items else None
        if prompting.nearest_items and nearness is None:
            message = (
                "prompt.nearest_items: which items are alike is learnt from the catalogue that a model is "
                "trained on, and there is none here; set prompt.nearest_items to 0"
            )
            raise ConfigError(message)
        self.suffix_tokens = self._count(self._render_suffix("")) + item_tokens + self._nearest_tokens()
        """Tokens set aside for the suffix: no suffix is longer."""
        self.prefix_tokens = prompting.max_tokens - self.suffix_tokens
        """Tokens that a prefix may have."""
        least = len(leading) + self._count(self._render_prefix("", ()))
        if least > self.prefix_tokens:
            message = (
                f"prompt.max_tokens: must be at least {least + self.suffix_tokens} ({least} for the "
                f"instruction and {self.suffix_tokens} for a candidate of prompt.item_tokens={item_tokens}), "
                f"got {prompting.max_tokens}"
            )
            raise ConfigError(message)
        self._line = lru_cache(maxsize=_CACHED_ITEMS)(self._make_line)
        self._near_line = lru_cache(maxsize=_CACHED_ITEMS)(self._make_near_line)
        self._suffix = lru_cache(maxsize=_CACHED_ITEMS)(self._make_suffix)
        self._prefix = lru_cache(maxsize=_CACHED_USERS)(self._make_prefix)

    def warm(self, items: Iterable[Item]) -> None:
        """Build what all users share of items, so that no request waits for it; of as many as are kept."""
        for item in islice(items, _CACHED_ITEMS):
            if self.nearness is None:
                self.suffix(item)
            else:
                self._line(_key(item))

    def forget(self) -> None:
        """Forget what was built of users."""
        self._prefix.cache_clear()
        if self.nearness is not None:
            self._suffix.cache_clear()
            self.nearness.forget()

    @property
    def versions(self) -> dict[str, str]:
        """Template name to version, for the run's card."""
        names = [self._prefix_name, self._suffix_name]
        names += [self._nearest_name] if self.nearness else []
        return self.templates.versions(names)

    def prefix(self, summary: str, recent: Sequence[Item]) -> Prefix:
        """Build the user's part; the summary is empty when there is none.

        Items are oldest first; the newest `prompting.recent_items` are shown.
        """
        shown = recent[len(recent) - min(len(recent), self.prompting.recent_items) :]
        return self._prefix(summary, tuple(self._line(_key(item)) for item in shown))

    def _make_prefix(self, summary: str, lines: tuple[str, ...]) -> Prefix:
        whole = neutralise(summary)
        summary = self._tokens.cut(whole, self.prompting.summary_tokens)
        dropped = 0
        text, ids = self._encoded(summary, lines)
        if len(ids) > self.prefix_tokens:  # of a long history, not each item is tried in turn
            dropped = bisect_left(
                range(len(lines)),
                True,
                key=lambda first: len(self._encoded(summary, lines[first:])[1]) <= self.prefix_tokens,
            )
            text, ids = self._encoded(summary, lines[dropped:])
        while len(ids) > self.prefix_tokens and summary:
            keep = self._tokens.count(summary) - (len(ids) - self.prefix_tokens)
            summary = self._tokens.cut(summary, keep)
            text, ids = self._encoded(summary, lines[dropped:])
        lost = 0 if summary == whole else self._tokens.count(whole) - self._tokens.count(summary)
        return Prefix(ids, text, Cut(dropped, lost))

    def is_cut(self, summary: str) -> bool:
        """Say whether a summary is longer than it may be in a prompt, so that its end is left out."""
        whole = neutralise(summary)
        return self._tokens.cut(whole, self.prompting.summary_tokens) != whole

    def suffix(self, item: Item, history: Sequence[Item] = ()) -> Suffix:
        """Build the candidate's part; the same item always gives the same ids.

        Where `prompting.nearest_items` are told, the history, oldest first, decides them, too. All of it is
        searched, also what the prefix leaves out.
        """
        if self.nearness is None:
            return self._suffix(_key(item), "")
        near = self.nearness.find(item, history, self.prompting.nearest_items)
        return self._suffix(_key(item), self._render_nearest(near))

    def slot(self) -> str:
        """Return the text that an answer follows, as it ends every prompt."""
        return self._render_suffix("")

    def _make_line(self, fields: tuple[tuple[str, str], ...]) -> str:
        if self.terse:
            # The order of the fields tells what is what; their names would be a third of all tokens.
            fields = (("", SEPARATOR.join(value for _, value in fields)),)
        return item_line(Item("", dict(fields)), self._tokens, self.item_tokens)

    def _make_near_line(self, fields: tuple[tuple[str, str], ...]) -> str:
        return self._tokens.cut(self._line(fields), self.prompting.nearest_tokens)

    def _make_suffix(self, fields: tuple[tuple[str, str], ...], nearest: str) -> Suffix:
        line = self._line(fields)
        while True:
            text = self._render_suffix(line + nearest)
            ids = self._encode([text])[0]
            excess = len(ids) - self.suffix_tokens
            if excess <= 0 or not line:
                return Suffix(tuple(ids), text)
            # The line met its cap alone but costs more beside its neighbours: cut it, never the slot.
            line = self._tokens.cut(line, self._tokens.count(line) - excess)

    def _render_prefix(self, summary: str, lines: Sequence[str]) -> str:
        yes, no = self.prompting.answers
        return self.templates.render(self._prefix_name, summary=summary, recent=list(lines), yes=yes, no=no)

    def _render_suffix(self, line: str) -> str:
        return self.templates.render(self._suffix_name, candidate=line)

    def _render_nearest(self, near: Near) -> str:
        """Tell what is like the candidate, on a line below it."""
        lines = filter(None, (self._near_line(_key(item)) for item in near.items))
        return "\n" + self.templates.render(
            self._nearest_name, nearest=list(lines), degree=near.degree, most=ALIKE
        )

    def _nearest_tokens(self) -> int:
        """Count the most tokens that `_render_nearest` takes."""
        count = self.prompting.nearest_items
        if not count:
            return 0
        blank = self.templates.render(self._nearest_name, nearest=["-"] * count, degree=ALIKE, most=ALIKE)
        return self._count("\n" + blank) + count * self.prompting.nearest_tokens

    def _encoded(self, summary: str, lines: Sequence[str]) -> tuple[str, tuple[int, ...]]:
        text = self._render_prefix(summary, lines)
        return text, (*self.leading, *self._encode([text])[0])

    def _count(self, text: str) -> int:
        return len(self._encode([text])[0])


def _key(item: Item) -> tuple[tuple[str, str], ...]:
    return tuple(item.fields.items())
