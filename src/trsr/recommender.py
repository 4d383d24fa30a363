"""A finished run as an object that ranks: load a folder, give a history and candidates, get their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.artifacts import RunFolder, read_parquet
from trsr.config import Config
from trsr.config.load import load_run
from trsr.data.catalogue import Catalogue
from trsr.errors import ConfigError, DataError, WriterError
from trsr.fusion.companions import WEIGHTS, KeptFusion
from trsr.ranking.ranker import Ranker
from trsr.ranking.scoring import RankingUser
from trsr.ranking.shared_prefix.prefix_cache import PrefixMemory
from trsr.records import CANDIDATES, HISTORY, ITEM, SUMMARY, USER, Item, RankedItem, Ranking
from trsr.summarize.summarizer import Summarizer

_MEMORY_BYTES: Final = 256 << 20
"""Keys and values kept of the users asked for last, so that a second request costs the candidates alone."""

ItemLike = str | Mapping[str, str]
"""An item of the catalogue by its id, or any other item as its text fields (with or without ``item_id``)."""

RankedBy = Literal["fused", "language_model"]
"""Whose scores make the order."""


class Recommender:
    """Ranks candidates for a user from text, with the summaries and the model of one run.

    Make one with `Recommender.load`, and close it when it isn't needed any more, or use it in a ``with``
    block: who writes new summaries holds the store of answers open.

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
    fusion
        The fused ranker; None to rank by p(yes).
    """

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        items: pl.DataFrame,
        ranker: Ranker,
        fusion: KeptFusion | None = None,
    ) -> None:
        self._config = config
        self._folder = folder
        self._items = items
        self._whole = Catalogue(items)
        self._read = Catalogue(items, config.items.fields)
        self._ranked = Catalogue(items, config.ranking_fields)
        self._ranker = ranker
        self._fusion = fusion
        self._memory = PrefixMemory(_MEMORY_BYTES)

    def __enter__(self) -> Recommender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the store of answers, if one was opened; a new summary would open it again."""
        opened = self.__dict__.pop("_summarizer", None)
        if opened is not None:
            opened.close()

    @classmethod
    def load(cls, run_dir: Path | str, ranker: RankedBy | None = None) -> Recommender:
        """Load a finished run.

        Parameters
        ----------
        run_dir
            A run folder in which ``trsr train`` or ``trsr run`` has finished.
        ranker
            ``fused`` ranks by the fused ranker, ``language_model`` by p(yes); None: by the fused ranker
            when the run has one.

        Raises
        ------
        DataError
            When it is no run folder.
        ConfigError
            When the run has no fused ranker, or there is no such ranker.
        ArtifactError
            When the folder lacks an artifact; the message names the stage that writes it.
        ModelError
            When the saved model can't be loaded.
        """
        if ranker not in (None, *get_args(RankedBy)):
            message = f"the ranker must be one of {', '.join(get_args(RankedBy))}, got {ranker!r}"
            raise ConfigError(message)
        folder = RunFolder(run_dir)
        config = load_run(folder.config)
        items = read_parquet(folder.require(folder.items, "prepare"))
        model = Ranker.load(folder.require(folder.model, "train"))
        return cls(config, folder, items, model, _open_fusion(config, folder, ranker))

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
            Items in falling order of their scores, equal ones in the order given, and the
            summary used. An item without an id is named by its place, as ``#3``. An item that
            training never saw, or that is given as text, is scored by systems that read texts.

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
            [written] = self._summarizer.summarize([("", read)], progress=False)
            if written.failed:
                message = f"this history can't be summarised: {written.failed}; give a summary or try again"
                raise WriterError(message, retryable=True)
            summary = written.final.text
        task = RankingUser("", summary, tuple(taken), tuple(offered))
        [p_yes] = self._ranker.score([task], memory=self._memory)
        scores = p_yes if self._fusion is None else self._fuse(self._fusion, history, candidates, p_yes)
        order = np.argsort(-scores, kind="stable")[:k]
        ranked = (RankedItem(offered[at].id, float(p_yes[at]), float(scores[at])) for at in order)
        return Ranking(tuple(ranked), summary)

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

    def _fuse(
        self,
        fusion: KeptFusion,
        history: Sequence[ItemLike],
        candidates: Sequence[ItemLike],
        p_yes: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Join p(yes) with what the companions say, ``(n_candidates,)``."""
        asked = [*history, *candidates]
        new = [
            self._read.make_item(f"#{number}", item)
            for number, item in enumerate(asked)
            if not isinstance(item, str)
        ]
        places = iter(range(len(self._read), len(self._read) + len(new)))
        found = np.array(
            [self._read.place(item) if isinstance(item, str) else next(places) for item in asked], np.int32
        )
        texts = pl.DataFrame(
            {name: [item.fields.get(name, "") for item in new] for name in self._read.fields},
            schema=dict.fromkeys(self._read.fields, pl.String),
        )
        return fusion.score(found[: len(history)], found[len(history) :], p_yes, texts)

    def _row(self, path: Path, user_id: str) -> dict[str, Any]:
        rows = read_parquet(path).filter(pl.col(USER) == user_id)
        newer = self._folder.appended  # what `trsr append` added holds both history and summary
        if path != self._folder.candidates and newer.exists():
            rows = pl.concat([read_parquet(newer).filter(pl.col(USER) == user_id), rows], how="diagonal")
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


def _open_fusion(config: Config, folder: RunFolder, ranker: RankedBy | None) -> KeptFusion | None:
    has_one = (folder.fusion / WEIGHTS).exists()
    if ranker == "fused" and not has_one:
        message = (
            f"{folder.path}: the run has no fused ranker; make one with `trsr evaluate`, or rank with "
            "language_model"
        )
        raise ConfigError(message)
    return KeptFusion.load(config, folder) if has_one and ranker != "language_model" else None
