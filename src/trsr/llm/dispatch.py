"""The calls of one stream: so many at once, each until it ends, answers as they come."""

from __future__ import annotations

import asyncio
import heapq
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from queue import SimpleQueue

from trsr.llm.generator import Chat, Completion, Failure
from trsr.llm.pacing import Call, Pace, Trouble

Send = Callable[[int], Awaitable[Completion | Trouble]]
"""Sends the chat at a place once; what it raises ends the whole run."""

Deliver = Callable[[int, Completion | Failure], None]


class Dispatch:
    """The calls of one stream that wait, are under way, or will be tried again; lives in one event loop.

    At most `concurrency` tries are under way at once. A call that waits for its next try takes no place; an
    answer that the caller has not stored yet keeps its place, so that a kill loses no more answers than that.
    The pace outlives the stream; `deliver` is told of every call that has ended; `clock` gives monotonic
    seconds.
    """

    def __init__(self, pace: Pace, concurrency: int, deliver: Deliver, clock: Callable[[], float]) -> None:
        self._pace = pace
        self._concurrency = concurrency
        self._deliver = deliver
        self._clock = clock
        self._ready: deque[Call] = deque()
        self._delayed: list[tuple[float, int, Call]] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._unread = 0
        self._closed = False
        self._stopped_by: Exception | None = None

    def go_on(self, calls: list[Call], taken: int) -> None:
        """Take more calls; `taken` outcomes were read and stored by the caller."""
        self._ready.extend(calls)
        self._unread -= taken
        self._changed.set()

    def close(self) -> None:
        """Stop at once; what is under way is let go."""
        self._closed = True
        self._changed.set()

    async def run(self, send: Send) -> None:
        """Send until closed, or until something ends the whole run.

        That something is raised as WriterError; what was under way has been waited for and delivered.
        """
        try:
            while not self._closed and (self._stopped_by is None or self._under_way):
                wait = self._wait()
                if wait == 0.0:
                    self._start(send)
                    continue
                self._changed.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._changed.wait()
        finally:
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)
        if self._stopped_by is not None:
            raise self._stopped_by

    def _wait(self) -> float | None:
        """Seconds until the next try can be sent; None until something changes."""
        places = 1 if self._pace.probing else self._concurrency
        if self._stopped_by is not None or len(self._under_way) + self._unread >= places:
            return None
        now = self._clock()
        if self._pace.probing and not self._ready and self._delayed:
            self._ready.append(self._pick_probe())
        while self._delayed and self._delayed[0][0] <= now:
            self._ready.appendleft(heapq.heappop(self._delayed)[2])
        if not self._ready:
            return max(self._delayed[0][0] - now, 1e-3) if self._delayed else None
        wait = self._pace.wait(self._ready[0].tokens, now)
        # A call that has waited for its next try may come before what waits for the limits.
        return min(wait, max(self._delayed[0][0] - now, 1e-3)) if wait and self._delayed else wait

    def _pick_probe(self) -> Call:
        """Take the call with the fewest tries: one prompt that breaks the server must not be every probe."""
        chosen = min(self._delayed, key=lambda entry: (entry[2].tries, entry[0], entry[1]))
        self._delayed.remove(chosen)
        heapq.heapify(self._delayed)
        return chosen[2]

    def _start(self, send: Send) -> None:
        call = self._ready.popleft()
        self._pace.send(call, self._clock())
        task = asyncio.create_task(self._try(call, send, probe=self._pace.probing))
        self._under_way.add(task)
        task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._stopped_by = self._stopped_by or error
        self._changed.set()

    async def _try(self, call: Call, send: Send, *, probe: bool) -> None:
        outcome = await send(call.place)
        if isinstance(outcome, Completion):
            told = outcome.prompt_tokens is not None and outcome.completion_tokens is not None
            used = (outcome.prompt_tokens or 0) + (outcome.completion_tokens or 0)
            self._pace.succeed(call, used if told else None)
            self._unread += 1
            self._deliver(call.place, outcome)
            return
        now = self._clock()
        self._stopped_by = self._stopped_by or self._pace.fail(call, outcome, now, probe=probe)
        if self._stopped_by is not None:
            return
        if not self._pace.ends(call, outcome):
            heapq.heappush(self._delayed, (self._pace.next_try(call, now), call.place, call))
            return
        said = outcome.said if call.tries <= 1 else f"{outcome.said} ({call.tries} tries)"
        self._unread += 1
        self._deliver(call.place, Failure(said, outcome.may_be_charged))
        self._stopped_by = self._pace.end(said)


Line = Callable[[], AbstractAsyncContextManager[Send]]
"""Opens what sends, inside the event loop, and closes it at the end."""

_Outcome = tuple[int, Completion | Failure]


def stream(
    chats: Sequence[Chat],
    line: Line,
    pace: Pace,
    concurrency: int,
    weigh: Callable[[Chat], float],
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[_Outcome]:
    """Yield ``(place, outcome)`` as calls end; chats appended in the meantime are sent too.

    The loop has its own thread, so that calls go on while the caller stores an answer, and so that it works
    inside a notebook, which has a loop already. `weigh` estimates the tokens that a chat will cost; `clock`
    gives monotonic seconds. Raises WriterError when something ends the whole run; every answer that came has
    been yielded.
    """
    outcomes: SimpleQueue[_Outcome | Exception] = SimpleQueue()
    loop = asyncio.new_event_loop()
    dispatch = Dispatch(pace, concurrency, lambda place, outcome: outcomes.put((place, outcome)), clock)
    thread = threading.Thread(
        target=_work, args=(loop, dispatch, line, outcomes), name="trsr-calls", daemon=True
    )
    thread.start()
    given = ended = 0
    try:
        while True:
            new = [Call(place, weigh(chats[place])) for place in range(given, len(chats))]
            given = len(chats)
            if ended == given:
                return
            loop.call_soon_threadsafe(dispatch.go_on, new, min(ended, 1))
            outcome = outcomes.get()
            if isinstance(outcome, Exception):
                raise outcome
            ended += 1
            yield outcome
    finally:
        if not loop.is_closed():
            loop.call_soon_threadsafe(dispatch.close)
        thread.join()
        loop.close()


def _work(
    loop: asyncio.AbstractEventLoop,
    dispatch: Dispatch,
    line: Line,
    outcomes: SimpleQueue[_Outcome | Exception],
) -> None:
    async def work() -> None:
        async with line() as send:
            await dispatch.run(send)

    try:
        loop.run_until_complete(work())
        loop.run_until_complete(loop.shutdown_default_executor())
    except Exception as error:  # the caller waits in another thread and must hear of it
        outcomes.put(error)
