from __future__ import annotations

from trsr.llm.pacing import CircuitBreaker


def test_successes_between_failures_keep_it_closed() -> None:
    breaker = CircuitBreaker(threshold=3)
    for now in range(20):
        breaker.fail(float(now))
        breaker.fail(float(now))
        breaker.succeed()
    assert not breaker.is_open
    assert breaker.down_s(20.0) == 0.0


def test_pauses_double_with_every_failed_probe_up_to_the_longest() -> None:
    breaker = CircuitBreaker(threshold=1)
    now, pauses = 0.0, []
    breaker.fail(now)
    for _ in range(8):
        pauses.append(breaker.wait(now))
        now += pauses[-1]
        breaker.fail(now, probe=True)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]


def test_calls_that_were_under_way_when_it_opened_make_no_pause_longer() -> None:
    breaker = CircuitBreaker(threshold=2)
    for _ in range(64):
        breaker.fail(1.0)
    assert breaker.wait(1.0) == 0.5


def test_after_it_closed_the_first_pause_is_short_again() -> None:
    breaker = CircuitBreaker(threshold=1)
    for now in (0.0, 1.0, 3.0):
        breaker.fail(now, probe=True)
    breaker.succeed()
    breaker.fail(10.0)
    assert breaker.wait(10.0) == 0.5
    assert breaker.down_s(12.0) == 2.0
