"""Answers that are paid for once: looked up, reserved, claimed, asked, stored before they count."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from typing import Any, TypeVar

from trsr.errors import StoreError
from trsr.llm.generator import Answering, Chat, Completion, Unanswered
from trsr.records import Usage
from trsr.summarize.cost import Budget, charge
from trsr.summarize.store import Question, Store, Together

_T = TypeVar("_T")


class Purchases:
    """One run's way from questions to answers, in its event loop; made by `purchases`."""

    def __init__(
        self,
        store: Store,
        budget: Budget,
        answer: Answering,
        most: Callable[[Chat], Usage],
        thread: Executor,
        ahead: int,
    ) -> None:
        self._store = store
        self._budget = budget
        self._answer = answer
        self._most = most
        self._thread = thread
        self._look_up = Together(self._read, thread)
        self._claim = Together(self._take, thread)
        self._put = Together(self._keep, thread)
        self._claimed: set[str] = set()
        self._places = asyncio.Semaphore(ahead)
        self._purse = asyncio.Lock()
        self._busy = 0
        self._changed = asyncio.Event()
        self._poll: asyncio.Future[None] | None = None

    async def find(
        self, question: Question, users: Collection[str], *, waits: bool = False
    ) -> Completion | None:
        """Return the stored answer, and note that it holds these users' text; None when there is none.

        With `waits` it is looked for when others, who are at it, may have answered.
        """
        with self._at_work():
            if waits:
                await self._wait_for_others()
            return await self._look_up((question.key, tuple(users)))

    async def buy(self, question: Question, users: Collection[str]) -> Completion | None:
        """Pay for an answer and store it, with the users there are by then; None where others are at it.

        Raises Unanswered when this question has no answer, BudgetError when nothing is left to pay with.
        """
        async with self._places:
            reserved = await self._reserve(question.chat)
            paid = Usage()
            with self._at_work():
                try:
                    if not await self._claim(question.key):
                        return None
                    async with self._answer(question.chat) as completion:
                        paid = charge(completion, reserved)
                        stands = await self._put((question, completion, tuple(users)))
                    self._claimed.discard(question.key)
                    return stands
                except Unanswered as failure:
                    # Tries that may be charged were counted as they failed; a refusal is a call without cost.
                    paid = Usage(0 if failure.may_be_charged else 1)
                    await self._in_thread(self._store.release, [question.key])
                    self._claimed.discard(question.key)
                    raise
                finally:
                    self._budget.spend(reserved, paid)

    async def tie(self, keys: Sequence[str], users: Collection[str]) -> None:
        """Note of stored answers that they hold the text of further users."""
        await self._in_thread(self._store.tie, dict.fromkeys(keys, tuple(users)))

    async def close(self) -> None:
        """Store what has come, and let go of what is under way, so that others may ask for it."""
        for work in (self._look_up, self._claim, self._put):
            await work.finish()
        # The store may be what failed; a claim that stays ends with this process.
        with suppress(StoreError):
            await self._in_thread(self._store.release, [*self._claimed])

    async def _reserve(self, chat: Chat) -> Usage:
        """Reserve the most that a call can cost; raises BudgetError when nothing is left that makes room."""
        most = self._most(chat)
        async with self._purse:  # what has no room lets nothing pass that came later
            while not self._budget.allow(most):
                if not self._busy:
                    raise self._budget.stop()
                self._changed.clear()
                await self._changed.wait()
        return most

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Count who may still make room in the budget."""
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            self._changed.set()

    async def _wait_for_others(self) -> None:
        """Wait until it is time to look what other processes have answered; all look together."""
        if self._poll is None or self._poll.done():
            self._poll = asyncio.ensure_future(asyncio.sleep(self._store.poll_s))
        await asyncio.shield(self._poll)

    def _read(self, asked: list[tuple[str, tuple[str, ...]]]) -> list[Completion | None]:
        found = self._store.get_many([key for key, _ in asked])
        if found:
            self._store.tie({key: users for key, users in asked if key in found})
        return [found.get(key) for key, _ in asked]

    def _take(self, keys: list[str]) -> list[bool]:
        ours = self._store.claim(keys)
        self._claimed |= ours
        return [key in ours for key in keys]

    def _keep(self, answers: list[tuple[Question, Completion, tuple[str, ...]]]) -> list[Completion]:
        return [self._store.put(*each) for each in answers]

    async def _in_thread(self, work: Callable[[Any], None], argument: object) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, work, argument)


@asynccontextmanager
async def purchases(
    store: Store, budget: Budget, answer: Answering, most: Callable[[Chat], Usage], ahead: int
) -> AsyncIterator[Purchases]:
    """Open a way to pay for answers, for the length of a run and inside its loop.

    `answer` is a generator's session, `most` estimates the dearest that a question can get, and `ahead`
    questions are handed to the generator at once. What was under way at the end is stored or let go of.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="trsr-store") as thread:
        opened = Purchases(store, budget, answer, most, thread, ahead)
        try:
            yield opened
        finally:
            await opened.close()


async def work_through(
    waiting: Iterable[_T], work: Callable[[_T], Coroutine[Any, Any, None]], most: int
) -> None:
    """Let `most` be under way; whoever is done takes the next. What one meets that ends the run ends all."""
    left = iter(waiting)

    async def work_on() -> None:
        for each in left:
            await work(each)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(most):
                group.create_task(work_on())
    except ExceptionGroup as several:
        raise several.exceptions[0] from several.exceptions[0].__cause__


def finish(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end, also where a loop runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    loop = asyncio.new_event_loop()
    task = loop.create_task(work)
    with closing(loop), ThreadPoolExecutor(1) as thread:
        try:
            return thread.submit(loop.run_until_complete, task).result()
        finally:
            loop.call_soon_threadsafe(task.cancel)  # where an interruption ends the waiting
