"""What a run may pay and what it paid: the cap, asked before every call, and the bill."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from trsr.config.summary import Limits, Price
from trsr.errors import BudgetError, ConfigError
from trsr.progress import text_table
from trsr.records import Usage

if TYPE_CHECKING:  # who only counts needs no model's libraries
    from trsr.llm.generator import Completion

_MILLION: Final = 1_000_000
_NO_LIMITS: Final = Limits()
_NO_PRICE: Final = Price()


def cost(usage: Usage, price: Price) -> float | None:
    """Money for a number of tokens; None when the price isn't known.

    Examples
    --------
    >>> cost(Usage(2, 0, 1_000_000, 500_000), Price(prompt=0.5, completion=2.0))
    1.5
    >>> cost(Usage(2, 0, 1_000_000, 500_000), Price()) is None
    True
    """
    if price.prompt is None or price.completion is None:
        return None
    return (usage.prompt_tokens * price.prompt + usage.completion_tokens * price.completion) / _MILLION


def charge(answer: Completion, otherwise: Usage) -> Usage:
    """Make the usage of one paid answer: what the server doesn't tell is taken from `otherwise`.

    Examples
    --------
    >>> from trsr.llm.generator import Completion
    >>> charge(Completion("Likes tea.", 90, None, "stop"), otherwise=Usage(1, 0, 80, 150))
    Usage(calls=1, calls_reused=0, prompt_tokens=90, completion_tokens=150, calls_unreported=1)
    """
    prompt, completion = answer.prompt_tokens, answer.completion_tokens
    return Usage(
        calls=1,
        prompt_tokens=otherwise.prompt_tokens if prompt is None else prompt,
        completion_tokens=otherwise.completion_tokens if completion is None else completion,
        calls_unreported=int(prompt is None or completion is None),
    )


class Budget:
    """What may still be paid for; threads may share it.

    Before a call is sent, `allow` reserves the most that it can cost: its prompt and the longest answer. When
    the answer is there (or the call has failed), `spend` puts what it did cost in the place of the
    reservation. So the caps hold whatever the answers' lengths, and with any number of calls under way.

    What a server doesn't report counts as reserved, and so does a try that may have been charged although it
    has no answer: one that timed out, broke off or can't be read. What it refused costs nothing. Where
    prompts are longer than they were estimated, the worst ratio so far is put on top; only the calls that
    were sent before the first answer can go beyond the cap by it.

    Answers from the store cost nothing and aren't asked for here. The caps are those of one command: the same
    command again may pay as much again. A cap on money needs the price, else ConfigError is raised. `spent`
    is what the calls that came back cost; `is_known` is False when what was spent elsewhere could not be
    learnt.

    Examples
    --------
    >>> budget = Budget(Limits(max_calls=1))
    >>> most = Usage(1, 0, prompt_tokens=200, completion_tokens=150)
    >>> budget.allow(most), budget.allow(most)
    (True, False)
    >>> budget.spend(most, Usage(1, 0, 200, 60))
    >>> budget.spent.completion_tokens
    60
    """

    def __init__(
        self, limits: Limits = _NO_LIMITS, price: Price = _NO_PRICE, setting: str = "summary"
    ) -> None:
        if limits.max_cost is not None and cost(Usage(), price) is None:
            capped = "summary" if setting == "images" else setting
            message = (
                f"{capped}.limits.max_cost needs a price: set {setting}.price.prompt and .completion, the "
                f"money for a million tokens, or cap the calls with {capped}.limits.max_calls"
            )
            raise ConfigError(message)
        shared = setting in ("summary", "images")
        self._raised = "--max-calls, --max-cost" if shared else f"{setting}.limits"
        self._limits = limits
        self._price = price
        self._lock = threading.Lock()
        self._reserved = Usage()
        self._ratio = 1.0
        self.spent = Usage()
        self.is_known = True

    @property
    def left(self) -> Limits:
        """What of the caps is left for others."""
        calls, money = self._limits.max_calls, self._limits.max_cost
        paid = cost(self.spent, self._price) or 0.0
        return Limits(
            max_calls=None if calls is None else max(0, calls - self.spent.calls),
            max_cost=None if money is None else max(0.0, money - paid),
        )

    def allow(self, most: Usage) -> bool:
        """Reserve `most`, the dearest that the next calls can get; say whether the caps have room for it.

        A refusal is final only when no call is under way: one that comes back cheaper than reserved makes
        room, so ask again then, and raise `stop()` when it is refused even so.
        """
        with self._lock:
            under_way = self._reserved + most
            if not self._has_room(under_way):
                return False
            self._reserved = under_way
            return True

    def _has_room(self, under_way: Usage) -> bool:
        calls, money = self._limits.max_calls, self._limits.max_cost
        if calls is not None and self.spent.calls + under_way.calls > calls:
            return False
        likely = replace(under_way, prompt_tokens=math.ceil(under_way.prompt_tokens * self._ratio))
        # Prices are decimal fractions: a cap that is hit exactly must not fail by a rounding error.
        return money is None or (cost(self.spent + likely, self._price) or 0.0) <= money * (1 + 1e-12)

    def lose(self, most: Usage) -> bool:
        """Count a try that may have been charged and has no answer; its call stays reserved for another try.

        Returns whether the caps have room for that; when not, raise `stop()`.
        """
        with self._lock:
            self.spent += replace(most, calls_unreported=most.calls)
            return self._has_room(self._reserved)

    def settle(self) -> Usage:
        """Count what is still reserved as spent, as whoever reserved it is gone; return all that was."""
        with self._lock:
            self.spent += replace(self._reserved, calls_unreported=self._reserved.calls)
            self._reserved = Usage()
            return self.spent

    def spend(self, reserved: Usage, actual: Usage) -> None:
        """Put what calls did cost in the place of what `allow` reserved for them.

        A call that was refused has made a call and no tokens: ``Usage(calls=1)``; one
        that was never sent, or whose tries `lose` has counted, is ``Usage()``.
        """
        with self._lock:
            self._reserved = _less(self._reserved, reserved)
            self.spent = self.spent + actual
            if actual.calls and reserved.prompt_tokens and not actual.calls_unreported:
                self._ratio = max(self._ratio, actual.prompt_tokens / reserved.prompt_tokens)

    def stop(self) -> BudgetError:
        """Make the error that ends a run at its cap, and says how to go on."""
        limits, spent = self._limits, self.spent
        caps = []
        if limits.max_calls is not None:
            caps.append(f"max_calls {limits.max_calls:,}")
        if limits.max_cost is not None:
            caps.append(f"max_cost {limits.max_cost:g} {self._price.currency}")
        money = cost(spent, self._price)
        paid = "" if money is None else f", {money:,.4f} {self._price.currency}"
        if spent.calls_unreported:
            paid += f" ({spent.calls_unreported:,} calls told no whole usage and count as reserved)"
        message = (
            f"the cap on what may be paid is reached ({' and '.join(caps)}): {spent.calls:,} calls made, "
            f"{spent.prompt_tokens:,} prompt and {spent.completion_tokens:,} completion tokens{paid}; every "
            "answer is stored: run the same command again to pay as much again, or with a higher cap "
            f"({self._raised}) to finish"
        )
        return BudgetError(message)


class Purse(Budget):
    """A budget in a process of its own, which others ask; remembers whether it stopped one of them."""

    is_stopped = False

    def stop(self) -> BudgetError:
        """Make the error that ends a run at its cap."""
        self.is_stopped = True
        return super().stop()

    def end(self) -> tuple[Usage, bool]:
        """Count what is reserved as spent; give all that was, and whether the cap has stopped anybody."""
        return self.settle(), self.is_stopped


def _less(whole: Usage, part: Usage) -> Usage:
    return Usage(
        whole.calls - part.calls,
        whole.calls_reused - part.calls_reused,
        whole.prompt_tokens - part.prompt_tokens,
        whole.completion_tokens - part.completion_tokens,
        whole.calls_unreported - part.calls_unreported,
    )


@dataclass(frozen=True, slots=True)
class Bill:
    """Calls to pay for and what they come to; what isn't known is None.

    The name is that of a paradigm, or ``planned`` and ``actual``. Of `calls_unreported` the server told no
    whole usage, or nothing at all; their tokens, and so the money, are what was reserved for them.
    """

    name: str
    calls: int | None
    calls_reused: int
    prompt_tokens: int | None
    completion_tokens: int | None
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
    lines = text_table([_HEADS, *(_cells(bill) for bill in bills)])
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
    calls, *tokens = (
        "unknown" if number is None else f"{number:,}"
        for number in (bill.calls, bill.prompt_tokens, bill.completion_tokens)
    )
    money = "unknown" if bill.money is None else f"{about}{_amount(bill.money)} {bill.currency}"
    told = (f"{about}{number}" for number in tokens)
    return (bill.name, calls, f"{bill.calls_reused:,}", *told, _duration(bill.seconds), money)


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
