"""Work that blocks, one piece after another in a thread of its own, and taken together where it can be."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, ParamSpec, TypeVar

from trsr.errors import RunError

T = TypeVar("T")
Asked = TypeVar("Asked")
Given = TypeVar("Given")
_More = ParamSpec("_More")


class Overloaded(RunError):
    """More is waiting than will be taken; the same request may be sent again after `retry_after_s`."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Lane:
    """A thread that does one thing after another."""

    def __init__(self, name: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"trsr-{name}")

    async def __call__(self, work: Callable[_More, T], *more: _More.args, **named: _More.kwargs) -> T:
        """Do it there. Whoever stops waiting doesn't stop it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(work, *more, **named))

    async def close(self, wait_s: float) -> bool:
        """End the thread when it has done what it is at; says whether that was within the time."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def waiting() -> None:
            self._thread.shutdown()
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(ended.cancel)

        threading.Thread(target=waiting, daemon=True).start()
        done, _ = await asyncio.wait([ended], timeout=wait_s)
        return bool(done)


@dataclass(slots=True)
class _Waiting(Generic[Asked, Given]):
    asked: Asked
    weight: int
    given: asyncio.Future[Given]


class Batcher(Generic[Asked, Given]):
    """Takes what several ask for to one call, within a stated wait.

    While a batch is computed, those who come wait for the next: it begins at once with all of them. Only
    whoever finds nobody at work waits `wait_s` for company.

    Parameters
    ----------
    work
        Gives a result, or an error that is its own, for each that was asked.
    wait_s
        Seconds to wait for others.
    most
        Weight that one call may have; one that is heavier goes alone.
    queue
        How many may wait; the next one is refused with `Overloaded`.
    told
        Is given the size of every batch.
    """

    def __init__(
        self,
        lane: Lane,
        work: Callable[[list[Asked]], Sequence[Given | Exception]],
        *,
        wait_s: float,
        most: int,
        queue: int,
        told: Callable[[int], object] = lambda size: None,
    ) -> None:
        self._lane = lane
        self._work = work
        self._wait_s = wait_s
        self._most = most
        self._queue = queue
        self._waiting: deque[_Waiting[Asked, Given]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._enough = asyncio.Event()
        self._seconds = 0.0
        self._told = told

    def __len__(self) -> int:
        return len(self._waiting)

    async def __call__(self, asked: Asked, weight: int = 1) -> Given:
        """Ask for one; raises the error that is its own."""
        if len(self._waiting) >= self._queue:
            ahead = self._seconds * len(self._waiting)
            message = f"{len(self._waiting):,} requests wait already; send it again later"
            raise Overloaded(message, retry_after_s=max(1.0, ahead))
        loop = asyncio.get_running_loop()
        waiting = _Waiting[Asked, Given](asked, weight, loop.create_future())
        self._waiting.append(waiting)
        if self._task is None:
            self._enough.clear()
            self._task = loop.create_task(self._run())
        if sum(each.weight for each in self._waiting) >= self._most:
            self._enough.set()
        return await waiting.given

    async def finish(self) -> None:
        """Wait until all that was asked for is done."""
        while self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._wait_s):
                    await self._enough.wait()
            while batch := self._next():
                await self._do(batch)
        finally:
            self._task = None

    def _next(self) -> list[_Waiting[Asked, Given]]:
        batch: list[_Waiting[Asked, Given]] = []
        weight = 0
        while self._waiting and (not batch or weight + self._waiting[0].weight <= self._most):
            waiting = self._waiting.popleft()
            if not waiting.given.done():  # nobody waits for it any more
                batch.append(waiting)
                weight += waiting.weight
        return batch

    async def _do(self, batch: list[_Waiting[Asked, Given]]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            results: Sequence[Any] = await self._lane(self._work, [each.asked for each in batch])
        except Exception as error:  # told to those who asked
            results = [error] * len(batch)
        self._seconds = (loop.time() - began) / len(batch)
        self._told(len(batch))
        for waiting, result in zip(batch, results, strict=True):
            if waiting.given.done():
                continue
            if isinstance(result, Exception):
                waiting.given.set_exception(result)
            else:
                waiting.given.set_result(result)
