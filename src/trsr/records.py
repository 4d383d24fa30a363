"""The vocabulary: column names, written once, and the records that cross module borders.

Tables are polars frames; their columns are the constants below. Records are
frozen and carry no behaviour beyond what their fields say.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

USER: Final = "user_id"
ITEM: Final = "item_id"
TIME: Final = "time"
ITEMS: Final = "item_ids"
TIMES: Final = "times"
HISTORY: Final = "history"
TARGET: Final = "target"
SPLIT: Final = "split"
PERSON: Final = "person"
PLACE: Final = "place"
POSITIVES: Final = "positives"
CANDIDATES: Final = "candidates"
SCORE: Final = "score"
P_YES: Final = "p_yes"
SUMMARY: Final = "summary"
BLOCK_SUMMARIES: Final = "block_summaries"
STATE: Final = "state"
FAILED: Final = "failed"
CALLS: Final = "calls"
PROMPT_TOKENS: Final = "prompt_tokens"
COMPLETION_TOKENS: Final = "completion_tokens"

_WIDTH: Final = 100


class Tool(StrEnum):
    """Whose files `trsr export` writes."""

    TREC = "trec"
    RECBOLE = "recbole"
    RECTOOLS = "rectools"
    SENTENCE_TRANSFORMERS = "sentence-transformers"
    SEQUENCE_CLASSIFICATION = "sequence-classification"


class Split(StrEnum):
    """The part of the users that a row belongs to."""

    TRAIN = "train"
    VALID = "valid"
    TEST = "test"


IN_CATALOGUE: Final = ".catalogue"
"""Ends the name of a file of scores that tells of places in the whole catalogue."""

MEASURED: Final = (Split.VALID, Split.TEST)
"""Splits that are scored: choices are made on the first, figures of the second are told."""

FUSED: Final = "fused"
"""What tables and files call the fused ranker."""

NO_SUMMARY: Final = "no-summary"
"""What they call the language model that is told of no summary."""

PROFILES: Final = "profiles"
"""What they call the language model that is told the texts of a table."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item with its named text fields, in the order in which they are shown.

    Parameters
    ----------
    id
        The item's id in its catalogue; an empty string for an item that is in none.
    fields
        Field name to text. Empty texts are left out by whoever makes the item.
    """

    id: str
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive items of one history, oldest first.

    Parameters
    ----------
    items
        The block's items, oldest first; never empty.
    index
        The block's place in the history, counted from 0 at the oldest.
    """

    items: tuple[Item, ...]
    index: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What summaries cost: calls made, calls answered from the store, tokens of both.

    Tokens are those of the calls' prompts and completions, whether the call was
    made now or answered from the store; a writer without a model has none. Of the
    calls, `calls_unreported` have tokens that nobody has told: what is added up for
    them is an estimate, or nothing.
    """

    calls: int = 0
    calls_reused: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    calls_unreported: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.calls + other.calls,
            self.calls_reused + other.calls_reused,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.calls_unreported + other.calls_unreported,
        )


@dataclass(frozen=True, slots=True)
class Summary:
    """A preference summary as a writer returns it.

    Parameters
    ----------
    text
        What a person, and the ranking model, reads.
    state
        What the writer needs to update or combine it later, as a JSON text; empty
        for writers that work from the text alone.
    usage
        The cost of the one call that wrote it.
    """

    text: str
    state: str = ""
    usage: Usage = field(default=Usage())


@dataclass(frozen=True, slots=True)
class UserSummary:
    """All that was written about one user.

    Parameters
    ----------
    user_id
        Whose summary it is.
    final
        The summary that goes into the prompt; its text is empty for paradigm ``none``.
    steps
        Every intermediate summary in the order it was written: one per block
        (recurrent: the summary after each block; hierarchical: of each block;
        sections: the edits that each block made).
    usage
        The sum over all calls of this user.
    failed
        Why there is no summary although there is a history to summarise; empty otherwise.
    """

    user_id: str
    final: Summary
    steps: tuple[Summary, ...]
    usage: Usage
    failed: str = ""

    @classmethod
    def empty(cls, user_id: str) -> UserSummary:
        """Make the summary of a user about whom nothing was written."""
        return cls(user_id, Summary(""), (), Usage())


@dataclass(frozen=True, slots=True)
class RankedItem:
    """One candidate.

    Parameters
    ----------
    item_id
        Its id.
    p_yes
        What the language model says of it.
    score
        What it is ranked by: the fused ranker's probability of being the next item, or p(yes) again.
    """

    item_id: str
    p_yes: float
    score: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """Candidates in falling order of their scores, and the summary that was used."""

    items: tuple[RankedItem, ...]
    summary: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was noticed about somebody's data.

    Parameters
    ----------
    rule
        A short, stable name, such as ``unknown-item``.
    count
        How many rows, items or users it concerns.
    action
        ``repaired``, ``dropped``, ``noted`` or ``refused``.
    examples
        Up to five places, as ``file:line: what stands there``.
    """

    rule: str
    message: str
    count: int
    action: str
    examples: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """What is wrong, with the count in it."""
        count = f"{self.count:,}"
        return self.message if count in self.message else f"{count} {self.message}"

    def __str__(self) -> str:
        """Write it for a terminal: the count, what is wrong, and the examples below."""
        head = f"{self.count:>9,}  {self.rule} ({self.action}): {self.message}"
        wrapped = textwrap.wrap(
            head, _WIDTH, initial_indent="  ", subsequent_indent=" " * 13, break_long_words=False
        )
        return "\n".join([*wrapped, *(f"{'':13}{example}" for example in self.examples)])
