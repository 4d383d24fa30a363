"""What a summariser is: three verbs, each over a batch of users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from trsr.records import Block, Summary


@dataclass(frozen=True, slots=True)
class Describe:
    """Asks for a summary of one block alone."""

    block: Block


@dataclass(frozen=True, slots=True)
class Update:
    """Asks for the summary so far, brought up to date with the next block."""

    summary: Summary
    block: Block


@dataclass(frozen=True, slots=True)
class Combine:
    """Asks for one summary of several, oldest first."""

    summaries: tuple[Summary, ...]


Request = Describe | Update | Combine


class Writer(Protocol):
    """Writes summaries; every verb takes a batch and answers in its order.

    The paradigms are folds over these verbs; the runner makes the batches.

    Raises
    ------
    WriterError
        When an answer can't be had; answers that came before it are not lost.
    """

    name: str
    """What wrote the summary, as the report shows it."""

    def describe(self, requests: Sequence[Describe]) -> list[Summary]:
        """Summarise each block alone."""
        ...

    def update(self, requests: Sequence[Update]) -> list[Summary]:
        """Bring each summary up to date with its next block."""
        ...

    def combine(self, requests: Sequence[Combine]) -> list[Summary]:
        """Join each ordered group of summaries into one."""
        ...
