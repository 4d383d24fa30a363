"""When a call may go to a server: why one failed, back-off, rate limits, Retry-After, the breaker."""

from __future__ import annotations

import math
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Final

from trsr.config.summary import Endpoint
from trsr.errors import WriterError


class Fault(Enum):
    """Whose fault it is, and so what helps."""

    SERVER = "server"
    """Away or busy, whatever it is asked: the call waits as long as patience lasts."""
    TRY = "try"
    """A broken or lost reply, which the prompt may have caused: another try, a limited number of times."""
    PROMPT = "prompt"
    """This prompt is refused: no other try, the other calls go on."""
    SETTINGS = "settings"
    """Every call would end the same way, such as with a wrong key: nothing more is sent."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """One try without an answer, whose fault it is, what happened and the next step, without any secret.

    `wait_s` is how long the server asks to be left alone; None when it doesn't say. The try `may_be_charged`
    when the server didn't refuse, but its answer is lost or unreadable.
    """

    fault: Fault
    said: str
    wait_s: float | None = None
    may_be_charged: bool = False


_FIRST_S, _LONGEST_S = 0.5, 30.0


def draw_wait(tries: int, stream: random.Random) -> float:
    """Draw the seconds until a call is tried again, after `tries` failed tries.

    Exponential back-off with full jitter: uniform between 0 and a bound that begins at half a second and
    doubles up to 30 s. Clients that failed together come back apart (M. Brooker, "Exponential Backoff And
    Jitter", AWS Architecture Blog, 2015).

    Examples
    --------
    >>> stream = random.Random(0)
    >>> [max(draw_wait(tries, stream) for _ in range(1000)) <= bound for tries, bound in ((1, 0.5), (3, 2.0))]
    [True, True]
    >>> 29 < max(draw_wait(500, stream) for _ in range(1000)) <= 30
    True
    """
    # Far beyond the longest wait the power would not fit a float.
    return stream.uniform(0.0, min(_LONGEST_S, _FIRST_S * 2.0 ** min(tries - 1, 16)))


_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 15.0


class CircuitBreaker:
    """Opens after some failures in a row; then one call at a time probes, after pauses that grow.

    Times are seconds of a monotonic clock, given by the caller. The `threshold` of failures in a row is over
    all calls.

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


_MINUTE_S: Final = 60.0


class RateLimit:
    """A bucket that fills evenly up to one burst, and from which every call takes its amount.

    Times are seconds of a monotonic clock, given by the caller: a wall clock that jumps changes nothing.
    `per_minute` is what the server allows; None for no limit. `burst_s` seconds' worth of it may be taken at
    once: servers count in windows of their own; a small burst keeps every window of a minute within the limit
    plus this share of it.

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


_SAID: Final = re.compile(
    r"(?:try again|retry) in (?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)(ms|s))?\b", re.I
)


def read_wait(headers: Mapping[str, str], said: str = "", now: float | None = None) -> float | None:
    """Seconds that an answer asks to wait; None when it asks for nothing that can be understood.

    ``retry-after-ms`` (milliseconds), then ``Retry-After`` in seconds or as a date. A date is read against
    the server's own ``Date``, so that neither clock has to be right; without one against `now`, seconds since
    the epoch (None for this machine's clock). A date that has passed asks for no wait: the result is never
    negative. Without such a header, what the server's sentence says: "try again in 2.5s". Names of headers
    are in lower case, or the mapping ignores case.

    Examples
    --------
    >>> read_wait({"retry-after": "2.5"})
    2.5
    >>> dates = {"date": "Mon, 01 Jan 2024 10:00:00 GMT", "retry-after": "Mon, 01 Jan 2024 10:00:30 GMT"}
    >>> read_wait(dates)
    30.0
    >>> read_wait({"retry-after": "soon"}) is None
    True
    >>> read_wait({}, "Rate limit reached. Please try again in 1m2.5s.")
    62.5
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    asked = headers.get("retry-after")
    seconds = _number(asked)
    if seconds is not None:
        return seconds
    until = _moment(asked)
    if until is None:
        return _spoken(said)
    at_server = _moment(headers.get("date"))
    if at_server is None:
        at_server = time.time() if now is None else now
    return max(0.0, until - at_server)


def _spoken(said: str) -> float | None:
    found = _SAID.search(said)
    if found is None or not any(found.groups()):
        return None
    hours, minutes, amount, unit = found.groups()
    seconds = float(amount or 0) / (1000 if unit == "ms" else 1)
    return 3600 * int(hours or 0) + 60 * int(minutes or 0) + seconds


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return max(0.0, value) if math.isfinite(value) else None


def _moment(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None


ENOUGH_IN_A_ROW: Final = 5
"""So many failed tries in a row open the breaker; so many calls in a row that end unanswered end the run."""


@dataclass(slots=True)
class Call:
    """One chat on its way to an answer; `tokens` estimates what it will cost, prompt and longest answer."""

    tokens: float
    tries: int = 0
    next_try: float = 0.0


class Pace:
    """Decides when a try is sent and what follows from how it went; it sends nothing itself.

    Libraries for limits and retries don't fit: their limits give no token back that an answer didn't use, and
    their retries wait one by one, where here all wait for what one was told, and one alone probes.

    All times are seconds of one monotonic clock, given by the caller; `stream` is the randomness of the
    waits. `tries`, `failed_tries` and `answered` count tries sent, tries without an answer, and answers.
    """

    def __init__(self, config: Endpoint, stream: random.Random) -> None:
        self._config = config
        self._stream = stream
        self._breaker = CircuitBreaker(ENOUGH_IN_A_ROW)
        self._requests = RateLimit(config.requests_per_minute)
        self._tokens = RateLimit(config.tokens_per_minute)
        self._paused_until = 0.0
        self._ended_in_a_row = 0
        self.tries = 0
        self.failed_tries = 0
        self.answered = 0

    @property
    def probing(self) -> bool:
        """Whether the server is being left alone but for one call at a time."""
        return self._breaker.is_open

    def wait(self, tokens: float, now: float) -> float:
        """Seconds until a try of so many tokens may be sent."""
        return max(
            self._paused_until - now,
            self._breaker.wait(now),
            self._requests.wait(1, now),
            self._tokens.wait(tokens, now),
            0.0,
        )

    def send(self, call: Call, now: float) -> None:
        """Note that a try is sent."""
        self._requests.take(1, now)
        self._tokens.take(call.tokens, now)
        self.tries += 1

    def succeed(self, call: Call, used_tokens: int | None) -> None:
        """Note an answer, and what it did cost; None when the server doesn't tell."""
        self._breaker.succeed()
        self._ended_in_a_row = 0
        self.answered += 1
        if used_tokens is not None:
            self._tokens.give_back(call.tokens - used_tokens)

    def fail(self, call: Call, trouble: Trouble, now: float, *, probe: bool) -> WriterError | None:
        """Note a try without an answer; return what ends the whole run, if it does."""
        self.failed_tries += 1
        if trouble.fault is Fault.SETTINGS:
            return WriterError(trouble.said)
        if trouble.fault is Fault.PROMPT:  # the server is well
            return None
        call.tries += 1
        self._breaker.fail(now, probe=probe)
        patience, down = self._config.patience_s, self._breaker.down_s(now)
        said = trouble.said
        if trouble.wait_s is not None and trouble.wait_s > patience:
            said += (
                f"; it asks to wait {trouble.wait_s:,.0f} s, longer than {self._config.setting}.patience_s "
                f"{patience:g}: run again then"
            )
            return WriterError(said, retryable=True)
        self._paused_until = max(self._paused_until, now + (trouble.wait_s or 0.0))
        if self._breaker.is_open and down > patience:
            said += (
                f"; no answer for {down:,.0f} s ({self._config.setting}.patience_s), what came before is "
                "stored"
            )
            return WriterError(said, retryable=True)
        if trouble.fault is Fault.SERVER and not self.answered and self._out_of_tries(call):
            return WriterError(
                f"{said} ({call.tries} {'tries' if call.tries > 1 else 'try'})", retryable=True
            )
        return None

    def ends(self, call: Call, trouble: Trouble) -> bool:
        """Say whether the call has no other try."""
        if trouble.fault is Fault.PROMPT:
            return True
        return trouble.fault is Fault.TRY and self._out_of_tries(call)

    def end(self, said: str) -> WriterError | None:
        """Note a call that ended unanswered; return what ends the whole run, if it does."""
        self._ended_in_a_row += 1
        if self._ended_in_a_row < ENOUGH_IN_A_ROW:
            return None
        return WriterError(f"{said} ({self._ended_in_a_row} calls in a row ended without an answer)")

    def put_off(self, call: Call, now: float) -> None:
        """Draw the time of the call's next try."""
        call.next_try = now + draw_wait(call.tries, self._stream)

    def _out_of_tries(self, call: Call) -> bool:
        return call.tries > self._config.max_retries
