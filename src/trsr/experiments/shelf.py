"""Where finished answers are kept: each whole or absent, and good for one fingerprint only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from trsr.artifacts import hash_path, read_parquet, write_json, write_parquet


@dataclass(frozen=True, slots=True)
class Card:
    """How answers came about.

    Parameters
    ----------
    training_seconds
        Wall time until the system could score; 0 for a system that needs none.
    scoring_seconds
        Wall time of scoring.
    examples
        Training examples; None for a system that isn't trained.
    negatives
        Kind of training negatives, in words; empty when there are none.
    details
        What else is worth telling, as JSON values.
    """

    training_seconds: float = 0.0
    scoring_seconds: float = 0.0
    examples: int | None = None
    negatives: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


class Shelf:
    """A folder of tables, each with a card that is written last and makes it complete.

    Parameters
    ----------
    path
        The folder; made when first written to.

    Examples
    --------
    >>> import tempfile
    >>> shelf = Shelf(Path(tempfile.mkdtemp()))
    >>> shelf.put("random/seed-0", "abc", pl.DataFrame({"user_id": ["u"]}), Card(scoring_seconds=0.5))
    >>> found = shelf.find("random/seed-0", "abc")
    >>> found is not None and found[1].scoring_seconds
    0.5
    >>> shelf.find("random/seed-0", "another fingerprint") is None
    True
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def find(self, name: str, fingerprint: str) -> tuple[pl.DataFrame, Card] | None:
        """Return a table and its card, or None when it isn't complete for this fingerprint."""
        table, card = self._paths(name)
        try:
            told = json.loads(card.read_text(encoding="utf-8"))
            if told.pop("fingerprint") != fingerprint or hash_path(table) != told.pop("table"):
                return None
            return read_parquet(table), Card(**told)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            # Whatever is not what `put` wrote is made again, at the price of its time only.
            return None

    def put(self, name: str, fingerprint: str, table: pl.DataFrame, card: Card) -> None:
        """Write a table, then its card."""
        path, card_path = self._paths(name)
        card_path.unlink(missing_ok=True)
        write_parquet(table, path)
        write_json({"fingerprint": fingerprint, "table": hash_path(path)} | asdict(card), card_path)

    def _paths(self, name: str) -> tuple[Path, Path]:
        return self.path / f"{name}.parquet", self.path / f"{name}.json"
