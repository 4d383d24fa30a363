"""What work says on a terminal: how far it is, with a bar or a line now and then; times and tables as text.

Lines go to the standard error stream, at growing distances: after 10 s, 20 s, 40 s and so on, then every
ten minutes, so that the log of a week is read in a minute, and the first line comes soon.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Sequence
from types import TracebackType
from typing import Any, Final

from tqdm import tqdm

_FIRST_LINE_S: Final = 10.0
_LONGEST_SILENCE_S: Final = 600.0
_BAR_AFTER_S: Final = 1.0


class Progress:
    """Counts what is done of one piece of work, and shows it.

    Parameters
    ----------
    unit
        What is counted, in the plural.
    done
        What was done before, by a process that was killed.
    shown
        False for work that nobody waits for.
    now
        Gives the time in seconds.

    Examples
    --------
    >>> with Progress("scoring", 40, "users") as progress:
    ...     progress.advance(40)
    """

    def __init__(
        self,
        title: str,
        total: float,
        unit: str,
        *,
        done: float = 0,
        shown: bool = True,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._before = self._done = done
        self._shown, self._now = shown, now
        self._began = now()
        self._next_line = self._began + _FIRST_LINE_S
        self._notes: dict[str, object] = {}
        self._bar: tqdm[Any] | None = None
        if shown and sys.stderr.isatty():
            self._bar = tqdm(total=total, initial=done, desc=title, unit=f" {unit}", delay=_BAR_AFTER_S)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def advance(self, count: float = 1) -> None:
        """Count what was done now."""
        self._done += count
        if self._bar is not None:
            self._bar.update(count)
        elif self._shown and (at := self._now()) >= self._next_line:
            passed = at - self._began
            self._next_line = at + min(max(passed, _FIRST_LINE_S), _LONGEST_SILENCE_S)
            self._say(f"{self._pace(passed)}{self._noted()}")

    def note(self, **values: object) -> None:
        """Show further values beside the count, such as the latest loss."""
        self._notes |= values
        if self._bar is not None:
            self._bar.set_postfix(self._notes)

    def close(self) -> None:
        """End the bar, or say how long the work took when lines were written."""
        passed = self._now() - self._began
        if self._bar is not None:
            self._bar.close()
        elif self._shown and self._next_line > self._began + _FIRST_LINE_S:
            self._say(f"ended after {clock(passed)}{self._noted()}")
        self._shown = False

    def _say(self, told: str) -> None:
        print(
            f"{self._title}: {self._done:,.0f} of {self._total:,.0f} {self._unit}, {told}",
            file=sys.stderr,
            flush=True,
        )

    def _pace(self, passed: float) -> str:
        """Tell how fast it goes, and from that how long it will take."""
        new = self._done - self._before
        if new <= 0:
            return f"none in {clock(passed)}"
        rate = new / passed
        told = f"{rate:,.1f} a second" if rate >= 1 else f"{clock(1 / rate)} each"
        return f"{told}, about {clock(max(self._total - self._done, 0) / rate)} left"

    def _noted(self) -> str:
        return "".join(f", {name} {value}" for name, value in self._notes.items())


def clock(seconds: float) -> str:
    """Write a time for people.

    Examples
    --------
    >>> clock(0.042), clock(4.2), clock(75), clock(7500)
    ('0.04 s', '4.2 s', '1 min 15 s', '2 h 05 min')
    """
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def text_table(rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> list[str]:
    """Align the cells of a table in text: columns named in `left` to the left, all others to the right.

    Examples
    --------
    >>> text_table([("system", "AUC"), ("bm25", "0.7")])
    ['system  AUC', 'bm25    0.7']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
