"""What summaries cost, as the lines of a table: planned beside actual."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class BillLine:
    """One figure of the bill of model calls, such as ``prompt tokens``; None where it isn't known."""

    name: str
    planned: float | None
    actual: float | None


_ORDER: Final = ("calls", "calls_reused", "prompt_tokens", "completion_tokens", "money", "seconds")
_WORDS: Final = {
    "calls_reused": "calls answered from the store",
    "calls_unreported": "calls without a whole usage report, counted as reserved",
}


def read_bill(path: Path) -> tuple[BillLine, ...]:
    """Read ``bill.json``; empty where there is none."""
    return bill_lines(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else ()


def bill_lines(bill: Mapping[str, Any]) -> tuple[BillLine, ...]:
    """Read the content of ``bill.json``: every figure of either side once, in the order of reading.

    ``{"planned": {"calls": 10, ..., "currency": "USD"}, "actual": {"calls": 9, ...}, "earlier": [...]}``:
    sides and figures may be absent, and what is no number is left out. Commands that paid before this
    one on the same run folder are counted in a line of their own. Empty when no call was planned and none
    made.

    Examples
    --------
    >>> bill_lines({"planned": {"calls": 10, "prompt_tokens": 900}, "actual": {"calls": 9}})[1]
    BillLine(name='prompt tokens', planned=900.0, actual=None)
    """
    planned, actual = (_numbers(bill.get(side)) for side in ("planned", "actual"))
    both = planned | actual
    if not any(side.get(name) for side in (planned, actual) for name in ("calls", "calls_reused")):
        return ()
    currency = (bill.get("planned") or bill.get("actual") or {}).get("currency")
    is_estimate = any(side.get("calls_unreported") for side in (planned, actual))
    if not is_estimate:
        both.pop("calls_unreported", None)
    words = dict(_WORDS)
    if currency:
        words["money"] = f"money ({currency}{', estimated' if is_estimate else ''})"
    names = [name for name in _ORDER if name in both] + [name for name in both if name not in _ORDER]
    lines = tuple(
        BillLine(words.get(name, name.replace("_", " ")), planned.get(name), actual.get(name))
        for name in names
    )
    earlier = bill.get("earlier")
    return (*lines, BillLine("earlier commands", None, float(len(earlier)))) if earlier else lines


def _numbers(side: Any) -> dict[str, float]:
    return {
        str(name): float(value)
        for name, value in (side if isinstance(side, Mapping) else {}).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
