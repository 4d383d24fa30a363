"""What a run has trained, as an object that ranks: load it, give a history and candidates, get an order."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from trsr.artifacts import RunFolder
from trsr.bundle import CARD, Bundle
from trsr.config import Config
from trsr.config.load import load_run
from trsr.config.summary import Limits
from trsr.data.dataset import Catalogue
from trsr.errors import DataError, WriterError
from trsr.recommending import CatalogueRanker, Recommendation, Repeats, Wanted
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
    RankedItem,
    Ranking,
    UserSummary,
)
from trsr.scorer import (
    ItemLike,
    RankedBy,
    Request,
    Scorer,
    require_candidates,
    require_ranker,
    resolve,
)
from trsr.users import SERVED, UserRow, Users, open_users

if TYPE_CHECKING:
    from trsr.summarize.summarizer import Summarizer

RANK: Final = "rank"
"""Column of `Recommender.rank_many`: 1 for the first of a user."""


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
        self.bundle = bundle
        self.config: Config = config or bundle.config
        """Settings to write summaries by."""
        self.scorer = Scorer(bundle, ranker)
        self.catalogue: Catalogue = self.scorer.catalogue
        """All items, with all texts that are known of them."""
        self.read: Catalogue = self.catalogue.showing(bundle.config.items.fields)
        """All items, as summaries read them."""
        self.limits = Limits()
        """What summaries that aren't appended under caps of their own may cost together."""
        self._place_of_users = users

    @property
    def knows_users(self) -> bool:
        """Whether there are users, or a bundle alone."""
        return self._place_of_users is not None

    @property
    def folder(self) -> RunFolder | None:
        """The run folder whose users these are; None where they lie elsewhere, or there are none."""
        return self._place_of_users if isinstance(self._place_of_users, RunFolder) else None

    def __enter__(self) -> Recommender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the users and the store of answers, if they are open; a request opens them again."""
        for name in ("summarizer", "users"):
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
        require_ranker(ranker)
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
            What to rank, in the same form; None for what `recommend` retrieves, without the history.
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
        if candidates is None:
            return self._found([self.request("", history, (), summary)], k)[0]
        require_candidates(candidates)
        return self._rank([self.request("", history, candidates, summary)], k)[0]

    def recommend(
        self,
        history: Sequence[ItemLike] | None = None,
        k: int = 10,
        *,
        user: str | None = None,
        summary: str | None = None,
        items: int | None = None,
        milliseconds: float | None = None,
        allow: Collection[str] | None = None,
        deny: Collection[str] = (),
        where: Mapping[str, Collection[str]] | None = None,
        repeats: Repeats = "learnt",
        explain: bool = False,
    ) -> Recommendation:
        """Recommend out of the whole catalogue.

        The companions of the fused ranker retrieve, the language model reads the best `items` of that, and
        the fused ranker of the catalogue makes the order; see `trsr.fusion.retrieval`.

        Parameters
        ----------
        history
            As for `rank`; None for that of `user`.
        k
            How many to return.
        user
            A user of the run, or of events that were appended: in place of a history.
        summary
            A preference summary to use in place of the stored or a new one.
        items, milliseconds, allow, deny, where, repeats, explain
            Budgets, filters and the rule for repeats; see `Wanted`.

        Raises
        ------
        ConfigError
            When a value can't be.
        DataError
            When an item or the user isn't known, or the filters leave nothing.
        WriterError
            When the summary can't be written.
        """
        wanted = Wanted(k, items, milliseconds, allow, deny, where or {}, repeats, explain)
        return self.recommend_to([(user, history, summary)], wanted)[0]

    def recommend_to(
        self, users: Sequence[tuple[str | None, Sequence[ItemLike] | None, str | None]], wanted: Wanted
    ) -> list[Recommendation]:
        """Recommend to several users, each a user's id, a history and a summary; see `recommend`."""
        requests = []
        for user, history, summary in users:
            if history is None and user is None:
                message = "give a history (an empty one for a newcomer) or a user"
                raise DataError(message)
            if history is not None:
                requests.append(self.request(user or "", history, (), summary))
            else:
                known = self.request_of(self.users.get(str(user), SERVED), ())
                requests.append(known if summary is None else replace(known, summary=summary))
        return self.whole.recommend(self.with_summaries(requests), wanted)

    @cached_property
    def whole(self) -> CatalogueRanker:
        """What recommends out of the whole catalogue."""
        return CatalogueRanker(self.bundle, self.scorer)

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
        if candidates is not None:
            require_candidates(candidates)
        return self._rank([self.request_of(self.users.get(user_id, SERVED), candidates)], k)[0]

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
            if offered is not None:
                require_candidates(offered)
            if HISTORY in row:
                requests.append(self.request(user, row[HISTORY], offered or (), row.get(SUMMARY)))
            else:
                requests.append(self.request_of(self.users.get(user, SERVED), offered))
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
        notes, users = Notes(), self.users
        with notes.told_with_errors():
            read = read_frame(events, self.catalogue.ids, self.config, notes)
        if max_calls is None and max_cost is None:
            return append_to(users, read, self.read, self.config, self.summarizer, notes, _warn)
        limits = Limits(max_calls=max_calls, max_cost=max_cost)
        with self._open_summarizer(limits) as summarizer:
            return append_to(users, read, self.read, self.config, summarizer, notes, _warn)

    def describe(self, item_id: str) -> str:
        """One line of text for an item of the catalogue; empty for an item that isn't in it."""
        if item_id not in self.catalogue:
            return ""
        return next(iter(self.catalogue.item(item_id).fields.values()), "")

    @cached_property
    def summarizer(self) -> Summarizer:
        """What writes summaries; opened when it is first needed, for that may load a language model."""
        return self._open_summarizer(self.limits)

    def _open_summarizer(self, limits: Limits) -> Summarizer:
        from trsr.summarize.summarizer import Summarizer  # noqa: PLC0415  ranking a known user writes nothing

        summary = self.config.summary.model_copy(update={"limits": limits})
        config = self.config.model_copy(update={"summary": summary})
        return Summarizer(config, self.bundle.vocabulary())

    @cached_property
    def users(self) -> Users:
        """Who is known; see `open_users`."""
        return self.open_users()

    def open_users(self) -> Users:
        """Open those who are known once more, for another thread that writes.

        Raises DataError where nobody is known, and ArtifactError where they can't be read.
        """
        if self._place_of_users is None:
            message = (
                f"{self.bundle.path}: a bundle knows no users; load the run folder, name its users.sqlite "
                "by `users`, or rank by a history"
            )
            raise DataError(message)
        place = self._place_of_users
        return open_users(place) if isinstance(place, RunFolder) else Users(place)

    def request(
        self,
        user_id: str,
        history: Sequence[ItemLike] | None,
        candidates: Sequence[ItemLike],
        summary: str | None,
    ) -> Request:
        """Ask for a history; an empty list of candidates is for the whole catalogue."""
        return Request(user_id, history or (), candidates, summary)

    def request_of(self, row: UserRow, candidates: Sequence[ItemLike] | None) -> Request:
        """Ask for a known user; without candidates for the frozen ones. Raises as `rank_user` does."""
        if row.shown is None:
            message = f"user {row.user_id!r} has no summary; run `trsr summarize` on the run folder again"
            raise DataError(message)
        if candidates is None and row.candidates is None:
            message = f"user {row.user_id!r} came after the run and has no frozen candidates; give candidates"
            raise DataError(message)
        offered = row.candidates if candidates is None else candidates
        return self.request(row.user_id, row.history, offered or (), row.shown)

    def _found(self, requests: Sequence[Request], k: int | None) -> list[Ranking]:
        """Rank what is retrieved for each, without the history."""
        wanted = Wanted(k or max(self.whole.items, 1), repeats="never")
        return [
            Ranking(
                tuple(RankedItem(item.item_id, item.p_yes, item.score) for item in found.items), found.summary
            )
            for found in self.whole.recommend(self.with_summaries(requests), wanted)
        ]

    def _rank(self, requests: Sequence[Request], k: int | None) -> list[Ranking]:
        """Score all requests together, and order each; those without candidates out of the catalogue."""
        if any(not request.candidates for request in requests):
            return [
                (self._rank if request.candidates else self._found)([request], k)[0] for request in requests
            ]
        rankings = []
        for request, said in zip(requests, self.scorer.score(self.with_summaries(requests)), strict=True):
            names = self.scorer.names(request.candidates)
            order = np.argsort(-said.scores, kind="stable")[:k]
            ranked = (RankedItem(names[at].id, float(said.p_yes[at]), float(said.scores[at])) for at in order)
            rankings.append(Ranking(tuple(ranked), said.summary))
        return rankings

    def with_summaries(self, requests: Sequence[Request]) -> list[Request]:
        """Give every request its summary, those that are missing written together.

        Raises WriterError when one can't be written.
        """
        missing = [request for request in requests if request.summary is None]
        read = [(request.user_id, resolve(request.history, self.read)) for request in missing]
        written = self.summarizer.summarize(read, progress=False) if missing else []
        for summary in written:
            if summary.failed:
                whose = f"the history of {summary.user_id!r}" if summary.user_id else "this history"
                message = f"{whose} can't be summarised: {summary.failed}; give a summary or try again"
                raise WriterError(message, retryable=True)
        new = iter(written)
        return [
            replace(each, summary=next(new).final.text) if each.summary is None else each for each in requests
        ]


def _warn(findings: Iterable[Finding]) -> None:
    for finding in findings:
        if finding.action != "noted":
            warnings.warn(f"{finding.count:,} events: {finding.message}", stacklevel=4)
