"""What a server asks for when it says "later"."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final

_SAID: Final = re.compile(
    r"(?:try again|retry) in (?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)(ms|s))?\b", re.I
)


def read_wait(headers: Mapping[str, str], said: str = "", now: float | None = None) -> float | None:
    """Seconds that an answer asks to wait; None when it asks for nothing that can be understood.

    ``retry-after-ms`` (milliseconds), then ``Retry-After`` in seconds or as a date. A
    date is read against the server's own ``Date``, so that neither clock has to be
    right; without one against this machine's clock. Without such a header, what the
    server's sentence says: "try again in 2.5s".

    Parameters
    ----------
    headers
        Names in lower case, or a mapping that ignores case.
    said
        The server's sentence.
    now
        Seconds since the epoch, for servers that tell no ``Date``; None for the
        clock's.

    Returns
    -------
    float or None
        Never negative: a date that has passed asks for no wait.

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
