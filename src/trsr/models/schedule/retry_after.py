"""What a server asks for when it says "later"."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime


def read_wait(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds that the answer's headers ask to wait; None when they ask for nothing that can be understood.

    ``retry-after-ms`` (milliseconds), then ``Retry-After`` in seconds or as a date. A
    date is read against the server's own ``Date``, so that neither clock has to be
    right; without one against this machine's clock.

    Parameters
    ----------
    headers
        Names in lower case, or a mapping that ignores case.
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
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    said = headers.get("retry-after")
    seconds = _number(said)
    if seconds is not None or said is None:
        return seconds
    until = _moment(said)
    if until is None:
        return None
    at_server = _moment(headers.get("date"))
    if at_server is None:
        at_server = time.time() if now is None else now
    return max(0.0, until - at_server)


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
