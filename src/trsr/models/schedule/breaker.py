"""Leaving a server alone that fails again and again, until one call shows that it is back."""

from __future__ import annotations

from typing import Final

_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 15.0


class CircuitBreaker:
    """Opens after some failures in a row; then one call at a time probes, after pauses that grow.

    Times are seconds of a monotonic clock, given by the caller.

    Parameters
    ----------
    threshold
        Failures in a row, over all calls, that open it.

    Examples
    --------
    >>> breaker = CircuitBreaker(threshold=2)
    >>> breaker.fail(now=0.0)
    >>> breaker.is_open
    False
    >>> breaker.fail(now=1.0)
    >>> breaker.is_open, breaker.wait(now=1.0), breaker.down_s(now=1.0)
    (True, 0.5, 1.0)
    >>> breaker.succeed()
    >>> breaker.is_open, breaker.wait(now=1.0)
    (False, 0.0)
    """

    def __init__(self, threshold: int) -> None:
        self._threshold = threshold
        self._in_a_row = 0
        self._first_failure: float | None = None
        self._pause_s = _FIRST_PAUSE_S
        self._until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether only probes may be sent."""
        return self._in_a_row >= self._threshold

    def wait(self, now: float) -> float:
        """Seconds until the next probe; 0.0 when closed."""
        return max(0.0, self._until - now) if self.is_open else 0.0

    def down_s(self, now: float) -> float:
        """Seconds since the first failure after the last success."""
        return 0.0 if self._first_failure is None else now - self._first_failure

    def succeed(self) -> None:
        """Note an answer: it closes."""
        self._in_a_row = 0
        self._first_failure = None
        self._pause_s = _FIRST_PAUSE_S

    def fail(self, now: float, *, probe: bool = False) -> None:
        """Note a failure; a failed probe doubles the pause, calls that were already under way don't."""
        if self._first_failure is None:
            self._first_failure = now
        was_open = self.is_open
        self._in_a_row += 1
        if self.is_open and (probe or not was_open):
            self._until = now + self._pause_s
            self._pause_s = min(_LONGEST_PAUSE_S, 2 * self._pause_s)
