"""Histories in, preference summaries out: blocks, paradigm and writer of one configuration together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from types import TracebackType

import polars as pl

from trsr.config import Config
from trsr.prompts.item_text import ApproximateTokens, item_line
from trsr.records import Block, Item, Usage, UserSummary
from trsr.summarize.cost import Budget
from trsr.summarize.keyphrase.vocabulary import Phrasebook
from trsr.summarize.paradigms import cut, cut_by_tokens, open_paradigm
from trsr.summarize.runner import Growth, append, summarize
from trsr.summarize.writer import open_writer


class Summarizer:
    """Summarises histories the way one configuration says; the run and the recommender share it.

    Parameters
    ----------
    config
        The whole configuration; its sections `summary`, `prompt` and `items` are used.
    items
        The catalogue, from which the keyphrase writer learns what is telling, or the vocabulary that was
        learnt from it.
    budget
        What may be paid for, where others pay from it too; None for one of its own, by `summary.limits`.

    Raises
    ------
    ConfigError
        When there is no such writer or paradigm.
    ModelError
        When a local model can't be loaded.
    StoreError
        When the store of answers can't be opened.
    """

    def __init__(
        self, config: Config, items: pl.DataFrame | Phrasebook, budget: Budget | None = None
    ) -> None:
        self._config = config
        self._budget = budget or Budget(config.summary.limits, config.summary.price)
        self._paradigm = open_paradigm(config.summary.paradigm, config.summary)
        silent = config.summary.paradigm == "none"
        self._writer = None if silent else open_writer(config, items, self._budget)

    def __enter__(self) -> Summarizer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of what the writer holds open, such as the store of answers."""
        if (close := getattr(self._writer, "close", None)) is not None:
            close()

    @property
    def spent(self) -> Usage:
        """Calls that were paid for so far, and their tokens; answers from the store are free, and counted."""
        return self._budget.spent

    @property
    def writer_name(self) -> str:
        """What writes the summaries; empty for paradigm ``none``."""
        return self._writer.name if self._writer is not None else ""

    def summarize(
        self, users: Iterable[tuple[str, Sequence[Item]]], *, progress: bool = True
    ) -> list[UserSummary]:
        """Summarise each user's history, oldest item first, in the users' order."""
        if self._writer is None:
            return [UserSummary.empty(user_id) for user_id, _ in users]
        blocks = ((user_id, cut_history(history, self._config)) for user_id, history in users)
        written = summarize(blocks, self._paradigm, self._writer, progress=progress)
        reused = sum(summary.usage.calls_reused for summary in written)
        self._budget.spend(Usage(), Usage(calls_reused=reused))
        return written

    def append(self, growths: Sequence[Growth]) -> list[UserSummary]:
        """Bring summaries up to date with what was added to histories; see `trsr.summarize.runner`."""
        if self._writer is None:
            return [UserSummary.empty(growth.summary.user_id) for growth in growths]
        return append(growths, self._paradigm, self._writer)


def cut_history(history: Sequence[Item], config: Config) -> tuple[Block, ...]:
    """Cut a history into blocks by items or by tokens, as the configuration says."""
    settings = config.summary
    if settings.block_tokens is None:
        return cut(history, settings.block_size)
    tokens = ApproximateTokens()
    line = partial(item_line, tokens=tokens, max_tokens=config.items.max_tokens)
    return cut_by_tokens(history, settings.block_tokens, tokens, line)
