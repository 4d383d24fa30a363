"""Numbers and names in the form in which a person reads them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

_NAMES: Final = {"random": "Random order", "popularity": "Popularity", "tfidf": "TF-IDF similarity"}
_SPLITS: Final = {"test": "Test users", "valid": "Validation users", "train": "Training users"}
_NONE: Final = "–"


def system_name(name: str) -> str:
    """Name of a system for the page; an unknown one is shown as it is.

    Examples
    --------
    >>> system_name("tfidf"), system_name("TRSR (compact)")
    ('TF-IDF similarity', 'TRSR (compact)')
    """
    return _NAMES.get(name, name)


def inside(name: str) -> str:
    """Name of a system inside a sentence."""
    return {"random": "random order", "popularity": "popularity"}.get(name, system_name(name))


def split_name(split: str) -> str:
    """Name of a split for the page."""
    return _SPLITS.get(split, split)


def decimal(value: float) -> str:
    """Three digits after the point; a dash for a number that could not be computed.

    Examples
    --------
    >>> decimal(0.41249), decimal(float("nan"))
    ('0.412', '–')
    """
    return _NONE if math.isnan(value) else f"{value:.3f}"


def percent(value: float) -> str:
    """Share as a whole percentage, with a digit more below 5%.

    Examples
    --------
    >>> percent(0.4129), percent(0.0132), percent(0.0), percent(1.0)
    ('41%', '1.3%', '0%', '100%')
    """
    if math.isnan(value):
        return _NONE
    return f"{value:.0%}" if value == 0 or value >= 0.0495 else f"{value:.1%}"


def count(value: int) -> str:
    """Whole number with separators for thousands.

    Examples
    --------
    >>> count(39949)
    '39,949'
    """
    return f"{value:,}"


def counted(value: int, noun: str) -> str:
    """Whole number and its noun, in the plural unless there is one.

    Examples
    --------
    >>> counted(1, "user"), counted(2, "user")
    ('1 user', '2 users')
    """
    return f"{value:,} {noun}" if value == 1 else f"{value:,} {noun}s"


def duration(seconds: float) -> str:
    """Time span in the largest unit that fits.

    Examples
    --------
    >>> duration(0.314), duration(42.04), duration(200), duration(7500)
    ('0.31 s', '42.0 s', '3 min 20 s', '2 h 5 min')
    """
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def rank(value: float) -> str:
    """Rank, with its half when a tie gives one.

    Examples
    --------
    >>> rank(2.0), rank(2.5)
    ('2', '2.5')
    """
    return f"{value:g}"


def listed(names: Sequence[str]) -> str:
    """Names joined for a sentence.

    Examples
    --------
    >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
