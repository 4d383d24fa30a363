"""What the service does, without HTTP: ranks together for many, beside what it does for its users.

Beside the threads of `trsr.serve.keeping` the model's works for it, which reads users' rows and scores.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np

from trsr.errors import ArtifactError, DataError, TrsrError, UnknownUser
from trsr.recommender import Recommender
from trsr.recommending import Recommendation, Wanted
from trsr.records import Item
from trsr.scorer import Explanation, ItemLike, Request, Scored, require_candidates
from trsr.serve.keeping import LAST_WAIT_S, Keeper
from trsr.serve.lanes import Batcher, Lane
from trsr.users import SERVED, UserRow

_ROWS_HELD: Final = 10_000


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
    is_newcomer
        Whether the user is known, but came after the run, which has frozen no candidates.
    """

    request: Request
    items: Sequence[Item]
    scored: Scored
    unread: int = 0
    edited: bool = False
    warnings: tuple[str, ...] = ()
    found: Recommendation | None = None
    is_newcomer: bool = False

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
    is_newcomer: bool = False


class Engine(Keeper):
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
        super().__init__(recommender)
        self.limits = limits or Limits()
        self.is_ready = False
        self.is_idle = True
        self._model = Lane("model")
        self._scoring: Batcher[Asked, Answer] = Batcher(
            self._model,
            self._score,
            wait_s=self.limits.wait_s,
            most=self.limits.batch_candidates,
            queue=self.limits.queue,
            told=told,
        )
        self._rows: OrderedDict[str, UserRow] = OrderedDict()

    async def start(self) -> None:
        """Read all texts, try the model once: first requests aren't the slowest; and begin to write."""
        await self._model(self.recommender.scorer.warm)
        await self._model(
            self.recommender.scorer.score, [Request("", (), [self.recommender.catalogue.ids[0]], "")]
        )
        await self._model(lambda: self.recommender.whole)
        if self.recommender.knows_users:
            await self._model(lambda: self.recommender.users)
            self.begin()
        self.is_ready = True

    async def stop(self) -> None:
        """Finish what was accepted; missing summaries stay noted, and are written after the next start."""
        self.is_ready = False
        await self._scoring.finish()
        closed = [await self.end(), await self._model.close(LAST_WAIT_S)]
        self.is_idle = all(closed)
        if self.is_idle:
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

    async def explain(self, asked: Asked, *, catalogue: bool | None = None) -> tuple[Explanation, Answer]:
        """Say who said what of the only candidate; raises as `rank`.

        `catalogue` as in `Scorer.explain`; None: where nothing was frozen for a known user, so that the score
        is that of the list that `rank` gives.
        """
        answer = await self.rank(asked)
        catalogue = answer.is_newcomer if catalogue is None else catalogue
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
                answers[at] = Answer(
                    request,
                    names,
                    scored,
                    unread=each.unread,
                    edited=each.edited,
                    warnings=said,
                    found=made,
                    is_newcomer=each.is_newcomer,
                )
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
            prepared = _Prepared(
                request,
                wanted,
                unread=row.unread,
                edited=row.edited is not None,
                warnings=warnings,
                is_newcomer=row.candidates is None,
            )
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

    async def _let_go(self, user_id: str) -> None:
        def held() -> None:
            self._rows.pop(user_id, None)
            self.recommender.scorer.forget()

        await self._model(held)
