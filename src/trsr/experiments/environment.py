"""What an experiment was run with."""

from __future__ import annotations

from trsr.pipeline import describe_environment


def versions() -> dict[str, str]:
    """Give the versions that every run's configuration starts with, by name.

    Examples
    --------
    >>> sorted(versions())[:3]
    ['numpy', 'peft', 'polars']
    """
    line = describe_environment().splitlines()[1].removeprefix("# ")
    named = (part.rpartition(" ") for part in line.split(", "))
    return {name.lower(): version for name, _, version in named}
