"""When the next try may be sent: limits, pauses and an open breaker in one place."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Final

from trsr.config.summary import EndpointWriter
from trsr.errors import WriterError
from trsr.models.schedule.backoff import draw_wait
from trsr.models.schedule.breaker import CircuitBreaker
from trsr.models.schedule.rate_limit import RateLimit
from trsr.models.schedule.trouble import Fault, Trouble

ENOUGH_IN_A_ROW: Final = 5
"""So many failed tries in a row open the breaker; so many calls in a row that end unanswered end the run."""


@dataclass(slots=True)
class Call:
    """One chat on its way to an answer.

    Parameters
    ----------
    place
        Its place among the stream's chats.
    tokens
        What it will cost, estimated: prompt and longest answer.
    """

    place: int
    tokens: float
    tries: int = field(default=0)


class Pace:
    """Decides when a try is sent and what follows from how it went; it sends nothing itself.

    All times are seconds of one monotonic clock, given by the caller.

    Parameters
    ----------
    config
        The server's limits and the run's patience.
    stream
        Randomness of the waits.

    Attributes
    ----------
    tries, failed_tries, answered
        Tries sent, tries without an answer, and answers.
    """

    def __init__(self, config: EndpointWriter, stream: random.Random) -> None:
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
                f"; it asks to wait {trouble.wait_s:,.0f} s, longer than summary.writer.patience_s "
                f"{patience:g}: run again then"
            )
            return WriterError(said, retryable=True)
        self._paused_until = max(self._paused_until, now + (trouble.wait_s or 0.0))
        if self._breaker.is_open and down > patience:
            said += f"; no answer for {down:,.0f} s (summary.writer.patience_s), what came before is stored"
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

    def next_try(self, call: Call, now: float) -> float:
        """Draw the time of the call's next try."""
        return now + draw_wait(call.tries, self._stream)

    def _out_of_tries(self, call: Call) -> bool:
        return call.tries > self._config.max_retries
