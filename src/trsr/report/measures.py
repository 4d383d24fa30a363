"""The metrics of a run as typed rows, and which of two systems stands clearly above the other."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from trsr.errors import ArtifactError
from trsr.records import Split
from trsr.registry import METRICS

_CUTOFF: Final = re.compile(r"@(\d+)")
_SPLIT_ORDER: Final = (Split.TEST, Split.VALID, Split.TRAIN)


class Verdict(StrEnum):
    """How one system stands to another, by their 95% intervals."""

    ABOVE = "above"
    UNCLEAR = "unclear"
    BELOW = "below"


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over users with its 95% interval."""

    mean: float
    low: float
    high: float

    def against(self, other: Interval) -> Verdict:
        """Compare intervals: `ABOVE` or `BELOW` only when they don't overlap.

        Examples
        --------
        >>> Interval(0.5, 0.4, 0.6).against(Interval(0.2, 0.1, 0.3)).value
        'above'
        >>> Interval(0.5, 0.4, 0.6).against(Interval(0.3, 0.2, 0.4)).value
        'unclear'
        """
        if self.low > other.high:
            return Verdict.ABOVE
        return Verdict.BELOW if self.high < other.low else Verdict.UNCLEAR


@dataclass(frozen=True, slots=True)
class Row:
    """One system on one split: its measures by name, over how many users."""

    system: str
    users: int
    tie_rate: float
    values: Mapping[str, Interval]


@dataclass(frozen=True, slots=True)
class Board:
    """All systems on one split, the language model's row first.

    `system` and `fused` name the language model's system and the fused ranker's, `fused` is empty without
    one. All others are the floor.
    """

    split: str
    system: str
    rows: tuple[Row, ...]
    fused: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Measures that any row has, grouped by family in the order in which families appear, by rising k."""
        return in_order(name for row in self.rows for name in row.values)

    @property
    def families(self) -> tuple[str, ...]:
        """Names without their cut-offs, such as ``Recall``."""
        return tuple(dict.fromkeys(family(name) for name in self.names))

    @property
    def own(self) -> Row | None:
        """The language model's row; None when it was not measured on this split."""
        return next((row for row in self.rows if row.system == self.system), None)

    @property
    def floor(self) -> tuple[Row, ...]:
        """The baselines' rows."""
        return tuple(row for row in self.rows if row.system not in (self.system, self.fused))

    @property
    def joined(self) -> Row | None:
        """The fused ranker's row; None when there is none."""
        return next((row for row in self.rows if self.fused and row.system == self.fused), None)

    def best(self, name: str) -> float:
        """Highest mean of a measure; NaN when no row has it."""
        means = [row.values[name].mean for row in self.rows if name in row.values]
        finite = [mean for mean in means if not math.isnan(mean)]
        return max(finite, default=math.nan)


def boards(metrics: Mapping[str, Any], system: str, fused: str = "") -> tuple[Board, ...]:
    """Read `ReportContent.metrics`, one board per split, the test split first.

    The language model's `system` comes first in every board; `fused` is empty without a fused ranker. Raises
    `ArtifactError` when the metrics are not of that form, or don't hold `system`.
    """
    try:
        systems = metrics["systems"]
        if system not in systems:
            held = ", ".join(systems) or "none"
            message = f"metrics hold no system {system!r} but {held}; run `trsr evaluate`"
            raise ArtifactError(message)
        ordered = [system, *(name for name in systems if name != system)]
        splits = dict.fromkeys(split for name in ordered for split in systems[name])
        return tuple(
            Board(
                split,
                system,
                tuple(_row(name, systems[name][split]) for name in ordered if split in systems[name]),
                fused,
            )
            for split in sorted(splits, key=_split_place)
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        message = f"metrics are not of the form that `trsr evaluate` writes ({error!r}); run it again"
        raise ArtifactError(message) from error


def family(name: str) -> str:
    """Name of a measure without its cut-off.

    Examples
    --------
    >>> family("Recall@3"), cutoff("Recall@3"), family("Recall@3 (catalogue)"), cutoff("AUC")
    ('Recall', 3, 'Recall (catalogue)', 0)
    """
    return _CUTOFF.sub("", name)


def cutoff(name: str) -> int:
    """Cut-off of a measure; 0 for one without."""
    found = _CUTOFF.search(name)
    return int(found[1]) if found else 0


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Give each measure once: Recall, MRR, NDCG, AUC, then others as they appear; each by rising k.

    Examples
    --------
    >>> in_order(["AUC", "NDCG@10", "Recall@10", "NDCG@3", "Hits", "NDCG@3"])
    ('Recall@10', 'NDCG@3', 'NDCG@10', 'AUC', 'Hits')
    """
    found = list(dict.fromkeys(names))
    appeared = dict.fromkeys(family(name) for name in found)
    families = list(dict.fromkeys([*METRICS, *appeared]))
    return tuple(sorted(found, key=lambda name: (families.index(family(name)), cutoff(name))))


def overall(own: Interval, others: Sequence[Interval]) -> Verdict:
    """Stand against several at once: above only when above all, below as soon as below one."""
    verdicts = {own.against(other) for other in others}
    if Verdict.BELOW in verdicts:
        return Verdict.BELOW
    return Verdict.ABOVE if verdicts == {Verdict.ABOVE} else Verdict.UNCLEAR


def _split_place(split: str) -> tuple[int, str]:
    return (_SPLIT_ORDER.index(Split(split)) if split in set(_SPLIT_ORDER) else len(_SPLIT_ORDER), split)


def _row(name: str, entry: Mapping[str, Any]) -> Row:
    values = {
        measure: Interval(_float(value["mean"]), _float(value["low"]), _float(value["high"]))
        for measure, value in entry["metrics"].items()
    }
    return Row(name, int(entry["users"]), _float(entry["tie_rate"]), values)


def _float(value: Any) -> float:
    """Read a number; None is what JSON has for a number that could not be computed."""
    return math.nan if value is None else float(value)
