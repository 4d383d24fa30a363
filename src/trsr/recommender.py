"""A finished run as an object that ranks: load a folder, give a history and candidates, get p(yes)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from trsr.artifacts import RunFolder, read_parquet
from trsr.config import Config, load
from trsr.data.catalogue import Catalogue
from trsr.errors import DataError
from trsr.ranking.examples import RankingUser
from trsr.ranking.ranker import Ranker
from trsr.ranking.shared_prefix.memory import PrefixMemory
from trsr.records import CANDIDATES, HISTORY, ITEM, SUMMARY, USER, Item, RankedItem, Ranking
from trsr.summarize.summarizer import Summarizer

_MEMORY_BYTES: Final = 256 << 20
"""Keys and values kept of the users asked for last, so that a second request costs the candidates alone."""

ItemLike = str | Mapping[str, str]
"""An item of the catalogue by its id, or any other item as its text fields (with or without ``item_id``)."""


class Recommender:
    """Ranks candidates for a user from text, with the summaries and the model of one run.

    Make one with `Recommender.load`.

    Parameters
    ----------
    config
        The run's settings.
    folder
        Where its artifacts lie.
    items
        The catalogue.
    ranker
        The fine-tuned model.
    """

    def __init__(self, config: Config, folder: RunFolder, items: pl.DataFrame, ranker: Ranker) -> None:
        self._config = config
        self._folder = folder
        self._items = items
        self._whole = Catalogue(items)
        self._read = Catalogue(items, config.items.fields)
        self._ranked = Catalogue(items, config.ranking_fields)
        self._ranker = ranker
        self._memory = PrefixMemory(_MEMORY_BYTES)

    @classmethod
    def load(cls, run_dir: Path | str) -> Recommender:
        """Load a finished run.

        Parameters
        ----------
        run_dir
            A run folder in which ``trsr train`` or ``trsr run`` has finished.

        Raises
        ------
        DataError
            When it is no run folder.
        ArtifactError
            When the folder lacks an artifact; the message names the stage that writes it.
        ModelError
            When the saved model can't be loaded.
        """
        folder = RunFolder(run_dir)
        if not folder.config.exists():
            message = f"{run_dir}: not a run folder (it has no config.yaml); make one with `trsr run`"
            raise DataError(message)
        # The folder may have been moved: the store of answers lies beside where it is now.
        config = load(folder.config).model_copy(update={"out": folder.path})
        items = read_parquet(folder.require(folder.items, "prepare"))
        ranker = Ranker.load(folder.require(folder.model, "train"))
        return cls(config, folder, items, ranker)

    def rank(
        self,
        *,
        history: Sequence[ItemLike],
        candidates: Sequence[ItemLike] | None = None,
        k: int | None = None,
        summary: str | None = None,
    ) -> Ranking:
        """Rank candidates for a user with this history.

        Parameters
        ----------
        history
            What the user has taken so far, oldest first: item ids, or text fields of
            items that the catalogue doesn't have. It may be empty.
        candidates
            What to rank, in the same form; None for the whole catalogue without the
            history, which costs one scored prompt an item.
        k
            How many to return; None for all.
        summary
            A preference summary to use in place of a new one.

        Returns
        -------
        Ranking
            Items in falling order of p(yes), equal ones in the order given, and the
            summary used. An item without an id is named by its place, as ``#3``.

        Raises
        ------
        DataError
            When an id isn't in the catalogue, a text field is none of the data set's,
            or there is nothing to rank.
        WriterError
            When the summary can't be written.
        """
        taken = _resolve(history, self._ranked)
        if candidates is None:
            known = {item.id for item in taken}
            candidates = [item_id for item_id in self._ranked.ids if item_id not in known]
        offered = _resolve(candidates, self._ranked)
        if not offered:
            message = "candidates must hold at least one item, got none"
            raise DataError(message)
        if summary is None:
            read = _resolve(history, self._read)
            summary = self._summarizer.summarize([("", read)], progress=False)[0].final.text
        return self._rank(summary, taken, offered, k)

    def rank_user(
        self, user_id: str, candidates: Sequence[ItemLike] | None = None, k: int | None = None
    ) -> Ranking:
        """Rank candidates for a user of the run, with the history and the summary that the run holds.

        Parameters
        ----------
        user_id
            A user of the run.
        candidates
            What to rank; None for the user's frozen candidates.
        k
            How many to return; None for all.

        Raises
        ------
        DataError
            When the run has no such user.
        """
        history = self._row(self._folder.histories, user_id)[HISTORY]
        summary = self._row(self._folder.require(self._folder.summaries, "summarize"), user_id)[SUMMARY]
        if candidates is None:
            candidates = self._row(self._folder.candidates, user_id)[CANDIDATES]
        return self.rank(history=history, candidates=candidates, k=k, summary=summary)

    def describe(self, item_id: str) -> str:
        """One line of text for an item of the catalogue; empty for an item that isn't in it."""
        if item_id not in self._whole:
            return ""
        return next(iter(self._whole.item(item_id).fields.values()), "")

    @cached_property
    def _summarizer(self) -> Summarizer:
        # Opening a writer may load a language model: only when a summary must be written.
        return Summarizer(self._config, self._items.select(ITEM, *self._read.fields))

    def _rank(self, summary: str, taken: Sequence[Item], offered: Sequence[Item], k: int | None) -> Ranking:
        task = RankingUser("", summary, tuple(taken), tuple(offered))
        [p_yes] = self._ranker.score([task], memory=self._memory)
        order = np.argsort(-p_yes, kind="stable")[:k]
        items = tuple(RankedItem(offered[place].id, float(p_yes[place])) for place in order)
        return Ranking(items, summary)

    def _row(self, path: Path, user_id: str) -> dict[str, Any]:
        rows = read_parquet(path).filter(pl.col(USER) == user_id)
        if rows.is_empty():
            message = f"{path}: no user {user_id!r}; give --history with item ids, or a user of the run"
            raise DataError(message)
        return rows.row(0, named=True)


def _resolve(items: Sequence[ItemLike], catalogue: Catalogue) -> list[Item]:
    """Find items by id, and put those given as text into the catalogue's form, as if they had been in it."""
    return [
        catalogue.item(item)
        if isinstance(item, str)
        else catalogue.make_item(item.get(ITEM, f"#{place}"), item)
        for place, item in enumerate(items, start=1)
    ]
