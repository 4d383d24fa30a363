"""How long to wait before the next try."""

from __future__ import annotations

import random
from typing import Final

_FIRST_S: Final = 0.5
_LONGEST_S: Final = 30.0


def draw_wait(tries: int, stream: random.Random) -> float:
    """Draw the seconds until a call is tried again, after `tries` failed tries.

    Exponential back-off with full jitter: uniform between 0 and a bound that begins
    at half a second and doubles up to 30 s. Clients that failed together come back
    apart (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).

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
