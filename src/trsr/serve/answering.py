"""Waiting for the engine on behalf of a request: its errors become refusals, its tokens are counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, Final, TypeVar

from trsr.errors import DataError, TrsrError, UnknownUser, UsageError
from trsr.records import Finding
from trsr.serve import schemas as forms
from trsr.serve.door import Figures, Refusal
from trsr.serve.engine import Answer, Engine
from trsr.serve.lanes import Overloaded

T = TypeVar("T")

FAILURES: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": forms.Failed, "description": told}
    for status, told in {
        401: "No key, or none that is known",
        404: "No such user",
        422: "The request can't be served as it is",
        429: "Too many wait; see Retry-After",
        503: "Something that is needed is away",
    }.items()
}
"""What the service's own API answers when it doesn't serve."""


class Answering:
    """Waits for the engine within the time that a request may take."""

    def __init__(self, engine: Engine, figures: Figures) -> None:
        self._engine = engine
        self.figures = figures

    async def __call__(self, call: Awaitable[T], *, timed: bool = True) -> T:
        """Wait; an error becomes a refusal. What changes users isn't `timed`: it isn't given up half-way."""
        took = self._engine.limits.timeout_s
        try:
            async with asyncio.timeout(took if timed else None):
                result = await call
        except TimeoutError:
            message = f"no answer within {took:g} seconds; send it again later"
            raise Refusal(503, "timeout", message, 1.0) from None
        except TrsrError as error:
            raise refusal_of(error) from error
        if isinstance(result, Answer):
            reused = result.scored.tokens_reused
            self.figures.tokens.labels("yes").inc(reused)
            self.figures.tokens.labels("no").inc(result.scored.tokens - reused)
        return result


def refusal_of(error: TrsrError) -> Refusal:
    """Say which status an error has."""
    message = str(error)
    if isinstance(error, Overloaded):
        return Refusal(429, "overloaded", message, error.retry_after_s)
    if isinstance(error, UnknownUser):
        return Refusal(
            404, "unknown_user", "no such user is known; append events of the user, or give a history"
        )
    if isinstance(error, DataError):
        details = [found.model_dump() for found in findings_out(error.findings)]
        return Refusal(422, "invalid", message, details=details)
    if isinstance(error, UsageError):
        return Refusal(422, "invalid", message)
    return Refusal(503, "unavailable", message, 5.0)


def findings_out(findings: Sequence[Finding]) -> list[forms.FindingOut]:
    """Put findings into the API's form."""
    return [
        forms.FindingOut(
            rule=found.rule,
            count=found.count,
            action=found.action,
            message=found.message,
            examples=[*found.examples],
        )
        for found in findings
    ]
