"""What a run has trained, as an object that ranks: load it, give a history and candidates, get an order."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.artifacts import RunFolder
from trsr.bundle import CARD, Bundle, require_fused
from trsr.config import Config
from trsr.config.load import load_run
from trsr.config.summary import Limits
from trsr.data.dataset import Catalogue
from trsr.errors import ConfigError, DataError, WriterError
from trsr.fusion.companions import KeptFusion
from trsr.ranking.scoring import RankingUser
from trsr.ranking.shared_prefix.forward import PrefixMemory
from trsr.records import (
    CANDIDATES,
    HISTORY,
    ITEM,
    P_YES,
    SCORE,
    SUMMARY,
    TIME,
    USER,
    Finding,
    Item,
    RankedItem,
    Ranking,
    UserSummary,
)
from trsr.users import SERVED, Users, open_users

if TYPE_CHECKING:
    from trsr.summarize.summarizer import Summarizer

_MEMORY_BYTES: Final = 256 << 20
"""Keys and values kept of the users asked for last, so that a second request costs the candidates alone."""

ItemLike = str | Mapping[str, str]
"""An item of the catalogue by its id, or any other item as its text fields (with or without ``item_id``)."""

RankedBy = Literal["fused", "language_model"]
"""Whose scores make the order."""

RANK: Final = "rank"
"""Column of `Recommender.rank_many`: 1 for the first of a user."""


@dataclass(frozen=True, slots=True)
class _Request:
    """One user's history and candidates; the summary is None where it is to be written."""

    user_id: str
    history: Sequence[ItemLike]
    candidates: Sequence[ItemLike]
    summary: str | None


class Recommender:
    """Ranks candidates for a user from text, with a bundle: what a run has trained.

    Make one with `Recommender.load`, and close it when it isn't needed any more, or use it in a ``with``
    block: it may hold the users' file and the store of answers open.

    Parameters
    ----------
    bundle
        The model, the catalogue's texts and all that was learnt.
    config
        Settings to write summaries by; None for the bundle's own.
    ranker
        As for `load`.
    users
        Who `rank_user` and `append` know: a run folder, or a file of users; None for nobody.
    """

    def __init__(
        self,
        bundle: Bundle,
        config: Config | None = None,
        ranker: RankedBy | None = None,
        users: RunFolder | Path | None = None,
    ) -> None:
        _require_ranker(ranker)
        if ranker == "fused":
            require_fused(bundle)
        self._bundle = bundle
        self._config = config or bundle.config
        self._whole: Catalogue = bundle.catalogue()
        self._read = self._whole.showing(bundle.config.items.fields)
        self._ranked = self._whole.showing(bundle.config.ranking_fields)
        self._ranker = bundle.ranker()
        fused = bundle.is_fused and ranker != "language_model"
        self._fusion: KeptFusion | None = bundle.fusion() if fused else None
        self._place_of_users = users
        self._memory = PrefixMemory(_MEMORY_BYTES)

    def __enter__(self) -> Recommender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the users and the store of answers, if they are open; a request opens them again."""
        for name in ("_summarizer", "_users"):
            opened = self.__dict__.pop(name, None)
            if opened is not None:
                opened.close()

    @classmethod
    def load(
        cls, path: Path | str, ranker: RankedBy | None = None, *, users: Path | str | None = None
    ) -> Recommender:
        """Load what a run has trained.

        Parameters
        ----------
        path
            A bundle, or a run folder in which ``trsr train`` or ``trsr run`` has finished.
        ranker
            ``fused`` ranks by the fused ranker, ``language_model`` by p(yes); None: by the fused ranker
            when there is one.
        users
            The ``users.sqlite`` of a run, for `rank_user` and `append`; None: that of the run folder, and
            nobody where `path` is a bundle.

        Raises
        ------
        DataError
            When it is neither.
        ConfigError
            When there is no fused ranker, or no such ranker.
        ArtifactError
            When a file is missing, damaged or of a newer format; the message names the next step.
        ModelError
            When the saved model can't be loaded.
        """
        _require_ranker(ranker)
        given = None if users is None else Path(users)
        if (Path(path) / CARD).exists():
            return cls(Bundle(Path(path)), None, ranker, given)
        folder = RunFolder(path)
        config = load_run(folder.config)
        folder.require(folder.bundle / CARD, "train")
        bundle = Bundle(folder.bundle)
        bundle.require_current(folder)
        return cls(bundle, config, ranker, given or folder)

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
        [ranking] = self._rank([self._request("", history, candidates, summary)], k)
        return ranking

    def rank_user(
        self, user_id: str, candidates: Sequence[ItemLike] | None = None, k: int | None = None
    ) -> Ranking:
        """Rank candidates for a user of the run, with the history and the summary that are known.

        Parameters
        ----------
        user_id
            A user of the run, or of events that were appended to it.
        candidates
            What to rank; None for the user's frozen candidates.
        k
            How many to return; None for all.

        Raises
        ------
        DataError
            When there is no such user, or no summary or candidates of this one.
        """
        [ranking] = self._rank([self._known(user_id, candidates)], k)
        return ranking

    def rank_many(
        self,
        users: pl.DataFrame | Iterable[Sequence[ItemLike]],
        candidates: Sequence[ItemLike] | None = None,
        k: int | None = 10,
    ) -> pl.DataFrame:
        """Rank for many users at once: as `rank` and `rank_user` do, in one pass through the model.

        Parameters
        ----------
        users
            Histories, or a frame with a row a user: ``user_id``, ``history``, ``candidates`` and ``summary``
            are read where they are there. Users without a ``history`` are those that `rank_user` knows.
        candidates
            What to rank for users who have no candidates of their own in the frame.
        k
            How many to return of each; None for all.

        Returns
        -------
        polars.DataFrame
            ``user_id`` (``#1``, ``#2``, ... where there are no ids), ``rank``, ``item_id``, ``score`` and
            ``p_yes``, users in their order.

        Raises
        ------
        DataError, WriterError
            As from `rank` and `rank_user`.
        """
        if isinstance(users, pl.DataFrame):
            rows: list[dict[str, Any]] = list(users.iter_rows(named=True))
        else:
            rows = [{HISTORY: history} for history in users]
        requests = []
        for number, row in enumerate(rows, start=1):
            user, offered = str(row.get(USER, f"#{number}")), row.get(CANDIDATES, candidates)
            if HISTORY in row:
                requests.append(self._request(user, row[HISTORY], offered, row.get(SUMMARY)))
            else:
                requests.append(self._known(user, offered))
        ranked = [
            (request.user_id, place, item.item_id, item.score, item.p_yes)
            for request, ranking in zip(requests, self._rank(requests, k), strict=True)
            for place, item in enumerate(ranking.items, start=1)
        ]
        schema = {USER: pl.String, RANK: pl.Int64, ITEM: pl.String, SCORE: pl.Float64, P_YES: pl.Float64}
        return pl.DataFrame(ranked, schema=schema, orient="row")

    def append(
        self,
        events: pl.DataFrame | Iterable[Sequence[Any]],
        *,
        max_calls: int | None = None,
        max_cost: float | None = None,
    ) -> list[UserSummary]:
        """Put new events behind the histories of users, and bring their summaries up to date.

        It is what ``trsr append`` does: only blocks that changed are summarised, known events are left out,
        and all users are written at once or, when anything fails, none. What was left out or mended is a
        warning.

        Parameters
        ----------
        events
            ``user_id``, ``item_id`` and, if known, ``time`` (seconds, ISO 8601, datetimes), as a frame or as
            tuples in this order. Users may be new.
        max_calls, max_cost
            The most that this call may pay; None for no cap.

        Returns
        -------
        list of UserSummary
            Of the users with new events, or whose last summary had failed; `usage` is what the new blocks
            cost.

        Raises
        ------
        DataError
            When there are no users, or no event has an item of the catalogue.
        BudgetError, WriterError
            When the cap is reached, or the writer gives up.
        """
        from trsr.append import append_to, read_frame  # noqa: PLC0415  ranking needs none of the readers
        from trsr.data.notes import Notes  # noqa: PLC0415

        if not isinstance(events, pl.DataFrame):
            rows = [tuple(event) for event in events]
            columns = (USER, ITEM, TIME)[: max(map(len, rows), default=3)]
            events = pl.DataFrame(rows, schema=columns, orient="row", strict=False)
        notes, users = Notes(), self._users
        with notes.told_with_errors():
            read = read_frame(events, self._whole.ids, self._config, notes)
        if max_calls is None and max_cost is None:
            return append_to(users, read, self._read, self._config, self._summarizer, notes, _warn)
        limits = Limits(max_calls=max_calls, max_cost=max_cost)
        with self._open_summarizer(limits) as summarizer:
            return append_to(users, read, self._read, self._config, summarizer, notes, _warn)

    def describe(self, item_id: str) -> str:
        """One line of text for an item of the catalogue; empty for an item that isn't in it."""
        if item_id not in self._whole:
            return ""
        return next(iter(self._whole.item(item_id).fields.values()), "")

    @cached_property
    def _summarizer(self) -> Summarizer:
        # Opening a writer may load a language model: only when a summary must be written.
        return self._open_summarizer(Limits())

    def _open_summarizer(self, limits: Limits) -> Summarizer:
        from trsr.summarize.summarizer import Summarizer  # noqa: PLC0415  ranking a known user writes nothing

        summary = self._config.summary.model_copy(update={"limits": limits})
        config = self._config.model_copy(update={"summary": summary})
        return Summarizer(config, self._bundle.vocabulary())

    @cached_property
    def _users(self) -> Users:
        if self._place_of_users is None:
            message = (
                f"{self._bundle.path}: a bundle knows no users; load the run folder, name its users.sqlite "
                "by `users`, or rank by a history"
            )
            raise DataError(message)
        place = self._place_of_users
        return open_users(place) if isinstance(place, RunFolder) else Users(place)

    def _request(
        self,
        user_id: str,
        history: Sequence[ItemLike] | None,
        candidates: Sequence[ItemLike] | None,
        summary: str | None,
    ) -> _Request:
        history = history or ()
        if candidates is None:
            known = {item if isinstance(item, str) else item.get(ITEM) for item in history}
            candidates = [item_id for item_id in self._whole.ids if item_id not in known]
        if not candidates:
            message = "candidates must hold at least one item, got none"
            raise DataError(message)
        return _Request(user_id, history, candidates, summary)

    def _known(self, user_id: str, candidates: Sequence[ItemLike] | None) -> _Request:
        row = self._users.get(user_id, SERVED)
        if row.summary is None:
            message = f"user {user_id!r} has no summary; run `trsr summarize` on the run folder again"
            raise DataError(message)
        if candidates is None and row.candidates is None:
            message = f"user {user_id!r} came after the run and has no frozen candidates; give candidates"
            raise DataError(message)
        return self._request(
            user_id, row.history, row.candidates if candidates is None else candidates, row.summary
        )

    def _rank(self, requests: Sequence[_Request], k: int | None) -> list[Ranking]:
        """Score all requests together, and order each."""
        told = self._summaries(requests)
        tasks = [
            RankingUser(
                request.user_id,
                summary,
                tuple(_resolve(request.history, self._ranked)),
                tuple(_resolve(request.candidates, self._ranked)),
            )
            for request, summary in zip(requests, told, strict=True)
        ]
        # One user may ask again; many are dearer to remember than to compute together.
        p_yes = self._ranker.score(tasks, memory=self._memory if len(tasks) == 1 else None)
        scores = p_yes if self._fusion is None else self._fuse(self._fusion, requests, p_yes)
        rankings = []
        for task, said, own in zip(tasks, p_yes, scores, strict=True):
            order = np.argsort(-own, kind="stable")[:k]
            ranked = (RankedItem(task.candidates[at].id, float(said[at]), float(own[at])) for at in order)
            rankings.append(Ranking(tuple(ranked), task.summary))
        return rankings

    def _summaries(self, requests: Sequence[_Request]) -> list[str]:
        """Return the requests' summaries, those that are missing written together."""
        missing = [request for request in requests if request.summary is None]
        read = [(request.user_id, _resolve(request.history, self._read)) for request in missing]
        written = self._summarizer.summarize(read, progress=False) if missing else []
        for summary in written:
            if summary.failed:
                whose = f"the history of {summary.user_id!r}" if summary.user_id else "this history"
                message = f"{whose} can't be summarised: {summary.failed}; give a summary or try again"
                raise WriterError(message, retryable=True)
        new = iter(written)
        return [next(new).final.text if each.summary is None else each.summary for each in requests]

    def _fuse(
        self, fusion: KeptFusion, requests: Sequence[_Request], p_yes: Sequence[NDArray[np.float64]]
    ) -> list[NDArray[np.float64]]:
        """Join p(yes) with what the companions say; requests of one number of candidates go together."""
        scores: dict[int, NDArray[np.float64]] = {}
        by_width = sorted(range(len(requests)), key=lambda at: len(requests[at].candidates))
        for _, group in groupby(by_width, key=lambda at: len(requests[at].candidates)):
            chosen = list(group)
            new: list[Item] = []
            histories = [self._places(requests[at].history, new) for at in chosen]
            offered = np.stack([self._places(requests[at].candidates, new) for at in chosen])
            texts = pl.DataFrame(
                {name: [item.fields.get(name, "") for item in new] for name in self._read.fields},
                schema=dict.fromkeys(self._read.fields, pl.String),
            )
            fused = fusion.score(histories, offered, np.stack([p_yes[at] for at in chosen]), texts)
            scores.update(zip(chosen, fused, strict=True))
        return [scores[at] for at in range(len(requests))]

    def _places(self, items: Sequence[ItemLike], new: list[Item]) -> NDArray[np.int32]:
        """Return items' places in the catalogue; others are put behind those in `new`."""
        places = []
        for item in items:
            if isinstance(item, str):
                places.append(self._whole.place(item))
            else:
                places.append(len(self._whole) + len(new))
                new.append(self._read.make_item("", item))
        return np.array(places, dtype=np.int32)


def _warn(findings: Iterable[Finding]) -> None:
    for finding in findings:
        if finding.action != "noted":
            warnings.warn(f"{finding.count:,} events: {finding.message}", stacklevel=4)


def _resolve(items: Sequence[ItemLike], catalogue: Catalogue) -> list[Item]:
    """Find items by id, and put those given as text into the catalogue's form, as if they had been in it."""
    return [
        catalogue.item(item)
        if isinstance(item, str)
        else catalogue.make_item(item.get(ITEM, f"#{place}"), item)
        for place, item in enumerate(items, start=1)
    ]


def _require_ranker(ranker: str | None) -> None:
    if ranker not in (None, *get_args(RankedBy)):
        message = f"the ranker must be one of {', '.join(get_args(RankedBy))}, got {ranker!r}"
        raise ConfigError(message)
