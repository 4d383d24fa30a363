"""What summaries cost, as a row that a plan and a run are compared by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trsr.config.summary import Price
from trsr.records import Usage
from trsr.summarize.budget import cost


@dataclass(frozen=True, slots=True)
class Bill:
    """Calls to pay for and what they come to.

    Parameters
    ----------
    name
        What the row stands for: a paradigm, or ``planned`` and ``actual``.
    calls
        Calls that are paid for.
    calls_reused
        Calls that the store answers.
    prompt_tokens, completion_tokens
        Of the calls that are paid for.
    seconds
        Time; None when it isn't known.
    money
        In `currency`; None when the price isn't known.
    currency
        What money is counted in.
    calls_unreported
        Calls of which the server told no whole usage, or nothing at all; their tokens, and so the money, are
        what was reserved for them.
    """

    name: str
    calls: int
    calls_reused: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float | None
    money: float | None
    currency: str
    calls_unreported: int = 0

    @classmethod
    def of(cls, name: str, paid: Usage, reused: int, seconds: float | None, price: Price) -> Bill:
        """Make the bill of calls; none at all cost nothing, whatever the price.

        Examples
        --------
        >>> Bill.of("planned", Usage(2, 0, 900, 200), 3, None, Price()).money is None
        True
        >>> Bill.of("planned", Usage(), 3, None, Price()).money
        0.0
        """
        money = cost(paid, price) if paid.calls else 0.0
        tokens = paid.prompt_tokens, paid.completion_tokens
        return cls(name, paid.calls, reused, *tokens, seconds, money, price.currency, paid.calls_unreported)

    def as_json(self) -> dict[str, Any]:
        """Return the row without its name as JSON values; what isn't known is null."""
        return {key: value for key, value in asdict(self).items() if key != "name"}


_HEADS = ("", "calls", "from store", "prompt tokens", "completion tokens", "time", "money")


def table(bills: Sequence[Bill]) -> str:
    """Write bills side by side; what isn't known reads "unknown", what rests on estimates "about".

    Examples
    --------
    >>> print(table([Bill.of("recurrent", Usage(1200, 0, 480_000, 90_000), 34, 75.0, Price())]))
               calls  from store  prompt tokens  completion tokens    time    money
    recurrent  1,200          34        480,000             90,000  1m 15s  unknown
    """
    rows = [_HEADS, *(_cells(bill) for bill in bills)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    lines = []
    for name, *cells in rows:
        numbers = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        lines.append("  ".join([name.ljust(widths[0]), *numbers]))
    lines += [_explain(bill) for bill in bills if bill.calls_unreported]
    return "\n".join(lines)


def _explain(bill: Bill) -> str:
    return (
        f"Of {bill.calls:,} calls, {bill.calls_unreported:,} came without a whole usage report, or with no "
        "readable answer: they count as what was reserved for them, the prompt as estimated and the longest "
        "answer. Their real tokens and money are unknown."
    )


def _cells(bill: Bill) -> tuple[str, ...]:
    about = "about " if bill.calls_unreported else ""
    tokens = (f"{about}{number:,}" for number in (bill.prompt_tokens, bill.completion_tokens))
    money = "unknown" if bill.money is None else f"{about}{_amount(bill.money)} {bill.currency}"
    counts = f"{bill.calls:,}", f"{bill.calls_reused:,}"
    return (bill.name, *counts, *tokens, _duration(bill.seconds), money)


def _amount(money: float) -> str:
    """Write money with cents, and what is less than a cent with two digits that say something."""
    return f"{money:,.2f}" if money >= 0.01 or money == 0 else f"{money:.2g}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    if seconds < 10:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,}h {minutes:02}m"
    return f"{minutes}m {rest:02}s" if minutes else f"{rest}s"
