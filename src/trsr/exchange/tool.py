"""Tools that files are exchanged with."""

from __future__ import annotations

from enum import StrEnum


class Tool(StrEnum):
    """Whose files are written."""

    TREC = "trec"
    RECBOLE = "recbole"
    RECTOOLS = "rectools"
