"""What several ask for in the same moment is computed together; each has its own answer, or its own error."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from trsr.serve.lanes import Batcher, Lane, Overloaded

LANE = Lane("test")


class Work:
    """Doubles numbers, as many at once as it is given; waits where a test holds it."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.free = threading.Event()
        self.free.set()

    def __call__(self, asked: list[int]) -> Sequence[int | Exception]:
        self.batches.append(asked)
        self.free.wait()
        if 13 in asked and len(asked) == 1:
            raise RuntimeError("a fault")
        return [ValueError(str(each)) if each < 0 else 2 * each for each in asked]


def batcher(work: Work, *, wait_s: float = 0.05, most: int = 4, queue: int = 8) -> Batcher[int, int]:
    return Batcher(LANE, work, wait_s=wait_s, most=most, queue=queue)


def test_those_who_ask_together_are_answered_together_and_each_with_its_own() -> None:
    work = Work()

    async def ask() -> list[int | BaseException]:
        doubled = batcher(work, wait_s=10.0)  # enough of them end the waiting
        return await asyncio.gather(*map(doubled, (1, -1, 2, 3)), return_exceptions=True)

    one, failed, two, three = asyncio.run(ask())
    assert (one, two, three) == (2, 4, 6)
    assert isinstance(failed, ValueError)
    assert work.batches == [[1, -1, 2, 3]]


def test_a_batch_is_no_heavier_than_allowed_and_a_heavy_one_goes_alone() -> None:
    work = Work()

    async def ask() -> None:
        doubled = batcher(work)
        await asyncio.gather(doubled(1, 2), doubled(2, 2), doubled(3, 9), doubled(4, 3), doubled(5, 1))

    asyncio.run(ask())
    assert work.batches == [[1, 2], [3], [4, 5]]


def test_a_fault_is_told_to_those_who_asked_and_ends_nothing() -> None:
    work = Work()

    async def ask() -> int:
        doubled = batcher(work, wait_s=0)
        with pytest.raises(RuntimeError, match="a fault"):
            await doubled(13)
        return await doubled(1)

    assert asyncio.run(ask()) == 2


def test_too_many_are_sent_away_and_who_gives_up_is_not_computed() -> None:
    work = Work()

    async def ask() -> None:
        doubled = batcher(work, wait_s=0, queue=2)
        work.free.clear()
        first = asyncio.ensure_future(doubled(1))
        while not work.batches:
            await asyncio.sleep(0)
        second, third = (asyncio.ensure_future(doubled(number)) for number in (2, 3))
        await asyncio.sleep(0)
        assert len(doubled) == 2
        with pytest.raises(Overloaded) as sent_away:
            await doubled(4)
        assert sent_away.value.retry_after_s >= 1
        second.cancel()
        work.free.set()
        assert await first == 2
        assert await third == 6
        await doubled.finish()

    asyncio.run(ask())
    assert work.batches == [[1], [3]]


def test_a_lane_that_waits_for_something_is_left_after_a_while() -> None:
    free = threading.Event()

    async def close() -> tuple[bool, bool]:
        lane, idle = Lane("held"), Lane("idle")
        waiting = asyncio.ensure_future(lane(free.wait))
        await asyncio.sleep(0)
        closed = await lane.close(0.01), await idle.close(10.0)
        free.set()
        await waiting
        return closed

    assert asyncio.run(close()) == (False, True)
