from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trsr.llm.pacing import RateLimit


def spend(limit: RateLimit, amounts: list[float]) -> list[float]:
    """The times at which calls go out that are sent as soon as the limit lets them."""
    now, times = 0.0, []
    for amount in amounts:
        while wait := limit.wait(amount, now):
            now += wait
        limit.take(amount, now)
        times.append(now)
    return times


def test_no_limit_never_waits() -> None:
    assert spend(RateLimit(None), [1e9] * 3) == [0.0, 0.0, 0.0]


def test_calls_are_spread_evenly_after_the_burst() -> None:
    times = spend(RateLimit(60), [1] * 5)
    assert times == pytest.approx([0, 1, 2, 3, 4])


@given(st.floats(1, 5000), st.lists(st.floats(0.01, 3000), min_size=1, max_size=60))
def test_no_minute_holds_more_than_the_limit_and_one_burst_and_one_call(
    per_minute: float, amounts: list[float]
) -> None:
    times = spend(RateLimit(per_minute), amounts)
    for begin in times:
        inside = [amount for amount, at in zip(amounts, times, strict=True) if begin <= at < begin + 60]
        # One call may be larger than the bucket: it goes into debt, which the next ones wait for.
        assert sum(inside) <= per_minute * 61 / 60 + max(amounts) + 1e-3


def test_what_was_taken_too_much_comes_back() -> None:
    limit = RateLimit(60)
    limit.take(10, now=0.0)
    assert limit.wait(1, now=0.0) == pytest.approx(10)
    limit.give_back(9.5)
    assert limit.wait(1, now=0.0) == pytest.approx(0.5)


def test_time_that_goes_backwards_gives_nothing_away() -> None:
    limit = RateLimit(60)
    limit.take(1, now=100.0)
    assert limit.wait(1, now=40.0) == pytest.approx(1)
    assert limit.wait(1, now=100.5) == pytest.approx(0.5)
