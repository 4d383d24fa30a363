"""Limits a minute, of requests or of tokens."""

from __future__ import annotations

from typing import Final

_MINUTE_S: Final = 60.0


class RateLimit:
    """A bucket that fills evenly up to one burst, and from which every call takes its amount.

    Times are seconds of a monotonic clock, given by the caller: a wall clock that
    jumps changes nothing.

    Parameters
    ----------
    per_minute
        What the server allows; None for no limit.
    burst_s
        Seconds' worth of the limit that may be taken at once. Servers count in windows of their own; a
        small burst keeps every window of a minute within the limit plus this share of it.

    Examples
    --------
    >>> limit = RateLimit(per_minute=60, burst_s=1.0)
    >>> limit.wait(1, now=0.0)
    0.0
    >>> limit.take(1, now=0.0)
    >>> limit.wait(1, now=0.25)
    0.75
    """

    def __init__(self, per_minute: float | None, burst_s: float = 1.0) -> None:
        self._per_s = None if per_minute is None else per_minute / _MINUTE_S
        self._most = 0.0 if self._per_s is None else self._per_s * burst_s
        self._level = self._most
        self._at: float | None = None

    def wait(self, amount: float, now: float) -> float:
        """Seconds until `amount` may be taken; 0.0 when it may be taken now.

        An amount larger than the bucket waits until the bucket is full, and then goes into debt.
        """
        if self._per_s is None:
            return 0.0
        lacking = min(amount, self._most) - self._fill(now)
        # Levels are sums of floats: a millionth of a call must not make a wait of its own.
        return lacking / self._per_s if lacking > 1e-6 else 0.0

    def take(self, amount: float, now: float) -> None:
        """Take `amount`, which may leave a debt that later calls wait for."""
        if self._per_s is not None:
            self._level = self._fill(now) - amount

    def give_back(self, amount: float) -> None:
        """Correct an estimate: `amount` too much was taken (negative: too little)."""
        if self._per_s is not None:
            self._level = min(self._most, self._level + amount)

    def _fill(self, now: float) -> float:
        if self._per_s is None:
            return 0.0
        passed = 0.0 if self._at is None else max(0.0, now - self._at)
        self._at = now if self._at is None else max(now, self._at)
        self._level = min(self._most, self._level + passed * self._per_s)
        return self._level
