"""What the service does, without HTTP: ranks together, takes events, keeps summaries up to date, forgets.

Three threads work for it. The model's reads users' rows and scores; the store's writes events and edits,
which are on the disk when it answers; the writer's writes summaries, which may take minutes, and deletes.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import numpy as np
import polars as pl

from trsr.append import catch_up, grow, read_frame
from trsr.data.notes import Notes
from trsr.errors import ArtifactError, DataError, TrsrError, UnknownUser
from trsr.recommender import Recommender
from trsr.recommending import Recommendation, Wanted
from trsr.records import ITEM, TIME, USER, Finding, Item
from trsr.scorer import Explanation, ItemLike, Request, Scored, require_candidates
from trsr.serve.lanes import Batcher, Lane
from trsr.users import SERVED, UserRow, Users

_USERS_A_TURN: Final = 16
"""Users whose summaries are written together in the background; whoever deletes one waits for a turn."""
_ROWS_HELD: Final = 10_000
_LOOK_AGAIN_S: Final = 30.0
"""Others may append to the same users: who is behind is looked for so often, too."""
_LAST_WAIT_S: Final = 5.0
"""What a thread is at when the service stops has so long; a summary that isn't written is written later."""
_FIRST_PAUSE_S: Final = 2.0
_LONGEST_PAUSE_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What the service takes.

    Parameters
    ----------
    wait_s
        Seconds that a request waits for others to share a forward pass with.
    batch_candidates
        Candidates of a batch.
    queue
        Requests that wait; more are refused with 429.
    candidates
        Candidates of one request.
    text
        Characters of one text.
    body
        Bytes of one request.
    timeout_s
        Seconds that a request may take, and that its body may take to arrive.
    summary_s
        Seconds that a history may wait for its summary; it is ranked without, then.
    """

    wait_s: float = 0.002
    batch_candidates: int = 512
    queue: int = 512
    candidates: int = 1000
    text: int = 20_000
    body: int = 4 << 20
    timeout_s: float = 30.0
    summary_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for scores: a known user, or a history, or a summary alone.

    Parameters
    ----------
    user
        A known user where there is no history; else whose history it is, or None.
    candidates
        None: those that the run froze for the user, or what is retrieved from the whole catalogue without the
        history.
    wanted
        What to recommend out of the whole catalogue; candidates aren't looked at, then.
    """

    user: str | None = None
    history: Sequence[ItemLike] | None = None
    summary: str | None = None
    candidates: Sequence[ItemLike] | None = None
    wanted: Wanted | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Scores of a request, and what is to be said of them.

    Parameters
    ----------
    items
        The candidates.
    unread
        Events of the user that the summary doesn't know yet.
    edited
        Whether a person wrote the summary.
    found
        What was recommended out of the whole catalogue; the candidates are its items, then.
    """

    request: Request
    items: Sequence[Item]
    scored: Scored
    unread: int = 0
    edited: bool = False
    warnings: tuple[str, ...] = ()
    found: Recommendation | None = None

    def order(self) -> list[int]:
        """Return the candidates' places, best first, equal ones in the order given."""
        return [*map(int, np.argsort(-self.scored.scores, kind="stable"))]


@dataclass(frozen=True, slots=True)
class _Prepared:
    request: Request
    wanted: Wanted | None = None
    unread: int = 0
    edited: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class State:
    """How the background does.

    Parameters
    ----------
    trouble
        Why no summary can be written now; empty when they can.
    written
        How many were.
    failing
        Users whose summary could not be written, with the reason and when it is tried again.
    """

    trouble: str = ""
    written: int = 0
    failing: dict[str, tuple[str, float]] = field(default_factory=dict)


class Engine:
    """Serves one recommender to many.

    Parameters
    ----------
    recommender
        Its users may be nobody.
    limits
        What is taken.
    told
        Is given the size of every batch.
    """

    def __init__(
        self, recommender: Recommender, limits: Limits | None = None, told: Callable[[int], object] = id
    ) -> None:
        self.recommender = recommender
        self.limits = limits or Limits()
        self.state = State()
        self.is_ready = False
        self.is_idle = True
        self._model, self._store, self._writer = Lane("model"), Lane("store"), Lane("writer")
        self._scoring: Batcher[Asked, Answer] = Batcher(
            self._model,
            self._score,
            wait_s=self.limits.wait_s,
            most=self.limits.batch_candidates,
            queue=self.limits.queue,
            told=told,
        )
        self._opened: dict[Lane, Users] = {}
        self._rows: OrderedDict[str, UserRow] = OrderedDict()
        self._wake = asyncio.Event()
        self._background: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Try the model once, so that the first request isn't the slowest, and begin to write summaries."""
        await self._model(
            self.recommender.scorer.score, [Request("", (), [self.recommender.catalogue.ids[0]], "")]
        )
        await self._model(lambda: self.recommender.whole)
        if self.recommender.knows_users:
            await self._model(lambda: self.recommender.users)
            self._background = asyncio.create_task(self._keep_up())
        self.is_ready = True

    async def stop(self) -> None:
        """Finish what was accepted; missing summaries stay noted, and are written after the next start."""
        self.is_ready = False
        await self._scoring.finish()
        if self._background is not None:
            self._background.cancel()
            with suppress(asyncio.CancelledError):
                await self._background
        lanes = (self._model, self._store, self._writer)
        closed = [await lane.close(_LAST_WAIT_S) for lane in lanes]
        self.is_idle = all(closed)
        if self.is_idle:
            for users in self._opened.values():
                users.close()
            self.recommender.close()

    # -- Ranking ---------------------------------------------------------------------------------------------

    async def rank(self, asked: Asked) -> Answer:
        """Score a request's candidates, together with those of others.

        Where a summary is missing and can't be written, or a known user can't be read, the ranking goes on
        with what there is, and says so.

        Raises
        ------
        DataError
            When an item or a user isn't known, or there are too many candidates.
        Overloaded
            When too many wait.
        """
        warnings: tuple[str, ...] = ()
        if asked.history is not None and asked.summary is None:
            asked, warnings = await self._summarised(asked)
        weight = len(asked.candidates or ()) or 1
        answer = await self._scoring(asked, weight)
        return replace(answer, warnings=(*warnings, *answer.warnings)) if warnings else answer

    @property
    def waiting(self) -> int:
        """How many requests wait for the model."""
        return len(self._scoring)

    async def explain(self, asked: Asked, *, catalogue: bool = False) -> tuple[Explanation, Answer]:
        """Say who said what of the only candidate; raises as `rank`. `catalogue` as in `Scorer.explain`."""
        answer = await self.rank(asked)
        explain = partial(self.recommender.scorer.explain, answer.request, catalogue=catalogue)
        return await self._model(explain), answer

    async def _summarised(self, asked: Asked) -> tuple[Asked, tuple[str, ...]]:
        """Write the summary of a history that was given."""

        def work() -> tuple[Asked, tuple[str, ...]]:
            request = Request(asked.user or "", asked.history or (), (), None)
            try:
                [whole] = self.recommender.with_summaries([request])
            except DataError:  # an item of the history isn't known
                raise
            except TrsrError as error:
                said = f"ranked without a summary, which can't be written now: {error}"
                return replace(asked, summary=""), (said,)
            return replace(asked, summary=whole.summary), ()

        if not asked.history:
            return replace(asked, summary=""), ()
        writing = asyncio.ensure_future(self._writer(work))
        try:
            return await asyncio.wait_for(asyncio.shield(writing), self.limits.summary_s)
        except TimeoutError:
            writing.add_done_callback(
                lambda done: done.cancelled() or done.exception()
            )  # nobody asks any more
            took = self.limits.summary_s
            return replace(asked, summary=""), (
                f"ranked without a summary, not written within {took:g} seconds",
            )

    def _score(self, batch: list[Asked]) -> Sequence[Answer | Exception]:
        """Score what can be scored together; whoever asks for what isn't there has the error alone."""
        prepared: list[_Prepared | Exception] = []
        for asked in batch:
            try:
                prepared.append(self._prepare(asked))
            except Exception as error:
                prepared.append(error)
        whole = [each for each in prepared if isinstance(each, _Prepared)]
        try:
            found = iter(self._answers(whole))
        except Exception as error:
            if len(batch) == 1:
                return [error]
            return [self._score([asked])[0] for asked in batch]
        return [next(found) if isinstance(each, _Prepared) else each for each in prepared]

    def _answers(self, asked: Sequence[_Prepared]) -> list[Answer]:
        """Rank candidates in one pass; recommend to those who want the same in another."""
        scorer, whole = self.recommender.scorer, self.recommender.whole
        wishes = list(dict.fromkeys(repr(each.wanted) for each in asked))
        answers: dict[int, Answer] = {}
        for wish in wishes:
            places = [at for at, each in enumerate(asked) if repr(each.wanted) == wish]
            requests, wanted = [asked[at].request for at in places], asked[places[0]].wanted
            if wanted is None:
                found: list[tuple[Request, Scored, Recommendation | None]] = [
                    (request, scored, None)
                    for request, scored in zip(requests, scorer.score(requests, remember=True), strict=True)
                ]
            else:
                found = [
                    (replace(request, candidates=[item.item_id for item in made.items]), made.scored, made)
                    for request, made in zip(
                        requests, whole.recommend(requests, wanted, remember=True), strict=True
                    )
                ]
            for at, (request, scored, made) in zip(places, found, strict=True):
                each, names = asked[at], scorer.names(request.candidates)
                said = (*each.warnings, *(made.notes if made else ()))
                answers[at] = Answer(request, names, scored, each.unread, each.edited, said, made)
        return [answers[at] for at in range(len(asked))]

    def _prepare(self, asked: Asked) -> _Prepared:
        recommender, wanted = self.recommender, asked.wanted
        if asked.candidates is not None:
            require_candidates(asked.candidates)
        if asked.history is not None or asked.user is None:
            offered = asked.candidates or ()
            request = recommender.request(asked.user or "", asked.history, offered, asked.summary or "")
            prepared = _Prepared(request, wanted)
        else:
            row, warnings = self._row(asked.user)
            if row.shown is None:  # as a newcomer, until the first summary is there
                row = replace(row, summary="")
            if asked.summary is not None:
                row = replace(row, edited=asked.summary)
            request = recommender.request_of(row, () if wanted else asked.candidates)
            prepared = _Prepared(request, wanted, row.unread, row.edited is not None, warnings)
        most = self.limits.candidates
        if wanted is None and not request.candidates:
            items = min(recommender.whole.items, most)
            prepared = replace(prepared, wanted=Wanted(items, repeats="never"))
        read = max(wanted.items or 0, wanted.k) if wanted else len(request.candidates)
        if read > most:
            message = f"{'items' if wanted else 'candidates'}: {read:,} are more than the {most:,} that one "
            message += "request may rank; give fewer, or start the service with a higher --max-candidates"
            raise DataError(message)
        return prepared

    def _row(self, user: str) -> tuple[UserRow, tuple[str, ...]]:
        """Read a user; where that can't be done, what was read last stands in for it, and that is said."""
        try:
            row = self.recommender.users.get(user, SERVED)
        except ArtifactError as error:
            if (row_before := self._rows.get(user)) is None:
                raise
            return row_before, (
                f"the users can't be read now, what was known of this one stands in: {error}",
            )
        except UnknownUser:
            self._rows.pop(user, None)
            raise
        self._rows[user] = row
        self._rows.move_to_end(user)
        while len(self._rows) > _ROWS_HELD:
            self._rows.popitem(last=False)
        return row, ()

    # -- Users -----------------------------------------------------------------------------------------------

    async def append(self, events: Sequence[tuple[str, str, int]]) -> tuple[list[UserRow], Sequence[Finding]]:
        """Put events (user, item, unix seconds) behind the histories; when it returns they are on the disk.

        Returned are the users with new events, and what was left out or repaired. Raises DataError when no
        event has an item of the catalogue, and ArtifactError when they can't be written.
        """

        def work() -> tuple[list[UserRow], Sequence[Finding]]:
            notes = Notes()
            frame = pl.DataFrame(events, schema=(USER, ITEM, TIME), orient="row")
            with notes.told_with_errors():
                read = read_frame(frame, self.recommender.catalogue.ids, self.recommender.config, notes)
            return grow(self._users(self._store), read, notes), notes.findings()

        rows, findings = await self._store(work)
        if rows:
            self._wake.set()
        return rows, findings

    async def user(self, user_id: str) -> UserRow:
        """Read all that is known of a user; raises DataError when there is none."""
        return await self._store(lambda: self._users(self._store).get(user_id))

    async def edit(self, user_id: str, text: str | None) -> UserRow:
        """Put a person's text in the place of a summary; None takes it away again."""

        def work() -> UserRow:
            users = self._users(self._store)
            users.get(user_id)
            [row] = users.change([user_id], lambda now: [replace(now[user_id], edited=text)])
            return row

        return await self._store(work)

    async def rewrite(self, user_id: str, block: int, text: str | None, *, fresh: bool) -> UserRow:
        """Write a summary again from a block on; see `trsr.serve.profiles.rewrite`."""
        from trsr.serve.profiles import rewrite  # noqa: PLC0415  imports the writers

        return await self._writer(
            lambda: rewrite(self.recommender, self._users(self._writer), user_id, block, text, fresh=fresh)
        )

    async def forget(self, user_id: str) -> list[str]:
        """Delete all that is known of a user; see `trsr.serve.profiles.forget`. Says what went."""
        from trsr.serve.profiles import forget  # noqa: PLC0415  as above

        def held() -> None:
            self._rows.pop(user_id, None)
            self.recommender.scorer.forget()

        removed = await self._writer(lambda: forget(self.recommender, self._users(self._writer), user_id))
        await self._model(held)
        return removed

    def _users(self, lane: Lane) -> Users:
        """Give the lane's own connection: a transaction of one thread must not meet another's."""
        if lane not in self._opened:
            self._opened[lane] = self.recommender.open_users()
        return self._opened[lane]

    # -- Background ------------------------------------------------------------------------------------------

    async def _keep_up(self) -> None:
        """Write the summaries of users who are behind, as long as there are some."""
        pause = _FIRST_PAUSE_S
        while True:
            self._wake.clear()
            try:
                done = await self._turn()
                self.state.trouble, pause = "", _FIRST_PAUSE_S
                if done:
                    continue
                wait = _LOOK_AGAIN_S
            # A server that is away, a cap reached, a full disk; or a fault, which must not end it either.
            except Exception as error:
                told = str(error) if isinstance(error, TrsrError) else f"{type(error).__name__}: {error}"
                self.state.trouble = told
                wait = pause
                pause = min(2 * pause, _LONGEST_PAUSE_S)
                await asyncio.sleep(wait)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake.wait()

    async def _turn(self) -> bool:
        """Write some summaries; says whether there was anybody to write for."""
        now = time.monotonic()
        failing = {user: told for user, told in self.state.failing.items() if told[1] > now}
        self.state.failing = failing
        recommender = self.recommender

        def work() -> tuple[list[str], int]:
            users = self._users(self._writer)
            found = users.behind(_USERS_A_TURN + len(failing))
            names = [user for user in found if user not in failing][:_USERS_A_TURN]
            written = (
                catch_up(users, names, recommender.read, recommender.config, recommender.summarizer)
                if names
                else []
            )
            for summary in written:
                if summary.failed:
                    failing[summary.user_id] = (summary.failed, time.monotonic() + _LONGEST_PAUSE_S)
            return names, len([summary for summary in written if not summary.failed])

        names, written = await self._writer(work)
        self.state.written += written
        return bool(names)
