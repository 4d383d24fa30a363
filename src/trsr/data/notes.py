"""The notebook in which readers write down what they see, repair and leave out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Concatenate, Final, ParamSpec, TypeVar

import polars as pl

from trsr.errors import DataError
from trsr.records import Finding

FILE: Final = "_file"
"""Column of raw frames: name of the file that a row comes from."""
LINE: Final = "_line"
"""Column of raw frames: the row's line in its file, counted from 1 (row number for Parquet)."""

_EXAMPLES: Final = 5
_EXAMPLE_CHARACTERS: Final = 80


class Notes:
    """Collects findings; notes of one rule and message are added up.

    Examples
    --------
    >>> notes = Notes()
    >>> rows = pl.DataFrame({FILE: ["a.csv"], LINE: [3], "text": ["x,y,z"]})
    >>> notes.add("bad-row", "rows with a wrong number of fields are left out", "dropped", rows, "text")
    >>> notes.findings()[0].examples
    ('a.csv:3: x,y,z',)
    """

    def __init__(self) -> None:
        self._findings: dict[tuple[str, str], Finding] = {}

    def add(self, rule: str, message: str, action: str, rows: pl.DataFrame, shown: str | pl.Expr) -> None:
        """Note `rows`, which have `FILE` and `LINE`; `shown` says what stands there. No rows, no note."""
        if rows.is_empty():
            return
        text = pl.col(shown) if isinstance(shown, str) else shown
        first = rows.head(_EXAMPLES).select(
            pl.format("{}:{}: {}", FILE, LINE, printable(text).fill_null("")).alias("place")
        )
        self.count(rule, message, action, rows.height, tuple(first["place"]))

    def count(self, rule: str, message: str, action: str, count: int, examples: tuple[str, ...] = ()) -> None:
        """Note something by its number; zero is no note."""
        if not count:
            return
        before = self._findings.get((rule, message), Finding(rule, message, 0, action))
        together = (*before.examples, *examples)[:_EXAMPLES]
        self._findings[rule, message] = Finding(rule, message, before.count + count, action, together)

    def total(self, rule: str) -> int:
        """Count all that was noted under a rule."""
        return sum(finding.count for finding in self._findings.values() if finding.rule == rule)

    @contextmanager
    def told_with_errors(self) -> Iterator[None]:
        """Give every `DataError` that leaves the block what was noted so far: it often names the cause."""
        try:
            yield
        except DataError as error:
            error.findings = (*self.findings(), *error.findings)
            raise

    def findings(self) -> tuple[Finding, ...]:
        """Give all findings in the order in which their rules were first met."""
        return tuple(self._findings.values())


_Source = TypeVar("_Source")
_Read = TypeVar("_Read")
_More = ParamSpec("_More")


def noting(
    reader: Callable[Concatenate[_Source, Notes, _More], _Read],
) -> Callable[Concatenate[_Source, _More], tuple[_Read, tuple[Finding, ...]]]:
    """Give a reader a notebook, and its caller the findings: beside what was read, or with the error."""

    @wraps(reader)
    def read(
        source: _Source, /, *more: _More.args, **named: _More.kwargs
    ) -> tuple[_Read, tuple[Finding, ...]]:
        notes = Notes()
        with notes.told_with_errors():
            return reader(source, notes, *more, **named), notes.findings()

    return read


def printable(text: pl.Expr) -> pl.Expr:
    """Cut a text to the length of an example and replace control characters, which could steer a terminal."""
    return text.cast(pl.String).str.slice(0, _EXAMPLE_CHARACTERS).str.replace_all(r"[\p{Cc}\p{Cf}]", "·")
