"""A growing list of chats in, their outcomes out, while an event loop in a thread of its own sends them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from queue import SimpleQueue

from trsr.models.generation import Chat, Completion, Failure
from trsr.models.schedule.dispatch import Dispatch, Send
from trsr.models.schedule.pace import Call, Pace

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

    The loop has its own thread, so that calls go on while the caller stores an
    answer, and so that it works inside a notebook, which has a loop already.

    Parameters
    ----------
    chats
        What to send; may grow while the outcomes are read.
    line
        Opens the connection.
    pace
        When a try may be sent.
    concurrency
        Tries under way at once.
    weigh
        Tokens that a chat will cost, estimated.
    clock
        Monotonic seconds.

    Raises
    ------
    WriterError
        When something ends the whole run; every answer that came has been yielded.
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
