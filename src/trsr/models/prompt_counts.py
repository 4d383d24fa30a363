"""Whether a server reads whole prompts: its count of their tokens beside ours."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import Final

_SHORT: Final = 64
"""Prompts of fewer tokens say little: the chat template's own tokens weigh too much."""
_LEAST_SHARE: Final = 0.6
_CALIBRATED: Final = 5
_REMEMBERED: Final = 50
_STUCK_AT: Final = 3
_STUCK_SPREAD: Final = 1.15


@dataclass(slots=True)
class _Seen:
    """Estimates of the prompts for which the server reported one same count."""

    shortest: int
    longest: int
    times: int


class PromptCounts:
    """Compares the server's counts of prompt tokens with estimates, and tells when prompts were cut.

    The server's tokenizer isn't known, so two rules, both stated in ratios. A count
    below 60% of what is expected is a cut; expected is the estimate times the median
    ratio of the answers so far, or the estimate itself before the fifth. And a
    server that reports the same count for three prompts whose estimates differ by
    15% or more, none of them reported higher, has cut them to its context.

    Examples
    --------
    >>> counts = PromptCounts()
    >>> counts.find_cut(estimate=1000, reported=930), counts.ratio
    ('', 0.93)
    >>> counts.find_cut(estimate=4000, reported=2048)
    'the server counts 2,048 tokens in a prompt of about 3,720'
    """

    def __init__(self) -> None:
        self._ratios: deque[float] = deque(maxlen=_REMEMBERED)
        self._seen: dict[int, _Seen] = {}
        self._highest = 0

    @property
    def ratio(self) -> float:
        """The server's tokens for one estimated token; 1.0 until it is known."""
        return median(self._ratios) if self._ratios else 1.0

    def find_cut(self, estimate: int, reported: int | None) -> str:
        """Note one answer; say what shows that its prompt was cut, or return an empty text.

        Parameters
        ----------
        estimate
            Our count of the prompt.
        reported
            The server's; None when it reports none, which shows nothing.
        """
        if reported is None or estimate < _SHORT or self.is_partial(estimate, reported):
            return ""
        ratio = self.ratio if len(self._ratios) >= _CALIBRATED else min(1.0, self.ratio)
        if reported < _LEAST_SHARE * ratio * estimate:
            return f"the server counts {reported:,} tokens in a prompt of about {ratio * estimate:,.0f}"
        if self._is_stuck(estimate, reported):
            return f"the server counts {reported:,} tokens in prompts of unlike length"
        self._ratios.append(reported / estimate)
        return ""

    def is_partial(self, estimate: int, reported: int | None) -> bool:
        """Say whether a count is below any context that a prompt could be cut to: it leaves the cache out."""
        return reported is not None and reported < _SHORT and reported < _LEAST_SHARE * estimate

    def _is_stuck(self, estimate: int, reported: int) -> bool:
        self._highest = max(self._highest, reported)
        seen = self._seen.setdefault(reported, _Seen(estimate, estimate, 0))
        seen.shortest, seen.longest = min(seen.shortest, estimate), max(seen.longest, estimate)
        seen.times += 1
        spread = seen.longest / seen.shortest
        return reported == self._highest and seen.times >= _STUCK_AT and spread >= _STUCK_SPREAD
