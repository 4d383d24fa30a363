"""Ids in files whose fields end at white space."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import quote, unquote

import polars as pl

_IN_THE_WAY: Final = r'[\s\x00-\x1f\x7f-\x9f%"]'


def to_plain(ids: pl.Series) -> pl.Series:
    """Write white space, control characters, quotes and ``%`` as in addresses (``%20``); all else stays.

    Examples
    --------
    >>> to_plain(pl.Series(["a b", "50%", "é"])).to_list()
    ['a%20b', '50%25', 'é']
    """
    return _mapped(ids, _IN_THE_WAY, lambda text: re.sub(_IN_THE_WAY, lambda found: quote(found[0]), text))


def from_plain(ids: pl.Series) -> pl.Series:
    """Undo `to_plain`.

    Examples
    --------
    >>> from_plain(pl.Series(["a%20b", "50%25"])).to_list()
    ['a b', '50%']
    """
    return _mapped(ids, "%", unquote)


def _mapped(ids: pl.Series, concerned: str, change: Callable[[str], str]) -> pl.Series:
    """Change the few ids that need it, each once."""
    touched = ids.filter(ids.str.contains(concerned)).unique()
    return ids.replace(touched, pl.Series([change(text) for text in touched], dtype=pl.String))
