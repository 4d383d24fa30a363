"""The bill of model calls: what was planned beside what it came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from trsr.report.content import BillLine

_ORDER: Final = ("calls", "calls_reused", "prompt_tokens", "completion_tokens", "money", "seconds")
_WORDS: Final = {
    "calls_reused": "calls answered from the store",
    "calls_unreported": "calls without a whole usage report, counted as reserved",
}


def bill_lines(bill: Mapping[str, Any]) -> tuple[BillLine, ...]:
    """Read the content of ``bill.json``: every figure of either side once, in the order of reading.

    Parameters
    ----------
    bill
        ``{"planned": {"calls": 10, ..., "currency": "USD"}, "actual": {"calls": 9, ...}, "earlier": [...]}``;
        sides and figures may be absent, and what is no number is left out. Commands that paid before this
        one on the same run folder are counted in a line of their own.

    Returns
    -------
    tuple[BillLine, ...]
        Empty when no call was planned and none made.

    Examples
    --------
    >>> bill_lines({"planned": {"calls": 10, "prompt_tokens": 900}, "actual": {"calls": 9}})[1]
    BillLine(name='prompt tokens', planned=900.0, actual=None)
    """
    planned, actual = (_figures(bill.get(side)) for side in ("planned", "actual"))
    both = planned | actual
    if not any(side.get(name) for side in (planned, actual) for name in ("calls", "calls_reused")):
        return ()
    currency = (bill.get("planned") or bill.get("actual") or {}).get("currency")
    is_estimate = any(side.get("calls_unreported") for side in (planned, actual))
    if not is_estimate:
        both.pop("calls_unreported", None)
    names = [name for name in _ORDER if name in both] + [name for name in both if name not in _ORDER]
    lines = [
        BillLine(_WORDS.get(name, name.replace("_", " ")), planned.get(name), actual.get(name))
        for name in names
    ]
    if currency:
        money = f"money ({currency}{', estimated' if is_estimate else ''})"
        lines = [replace(one, name=money) if one.name == "money" else one for one in lines]
    earlier = bill.get("earlier")
    return (*lines, BillLine("earlier commands", None, float(len(earlier)))) if earlier else tuple(lines)


def _figures(side: Any) -> dict[str, float]:
    if not isinstance(side, Mapping):
        return {}
    return {
        str(name): float(value)
        for name, value in side.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
