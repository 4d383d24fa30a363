from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from trsr.config.summary import Limits, Price
from trsr.errors import ConfigError
from trsr.records import Usage
from trsr.summarize.cost import Bill, Budget, cost, table

PRICE = Price(prompt=1.0, completion=10.0, currency="EUR")
MOST = Usage(1, 0, 100_000, 10_000)  # 0.2 EUR at most


def test_without_caps_everything_is_allowed_and_counted() -> None:
    budget = Budget()
    assert all(budget.allow(MOST) for _ in range(100))
    budget.spend(MOST, Usage(1, 0, 5, 3))
    assert budget.spent == Usage(1, 0, 5, 3)


def test_calls_under_way_count_until_they_are_back() -> None:
    budget = Budget(Limits(max_calls=3))
    assert [budget.allow(MOST) for _ in range(4)] == [True, True, True, False]
    budget.spend(MOST, Usage())  # never sent: its place is free again
    assert [budget.allow(MOST) for _ in range(2)] == [True, False]
    for _ in range(3):
        budget.spend(MOST, Usage(1))  # failed calls are calls
    assert not budget.allow(MOST)


def test_money_is_reserved_at_its_most_and_given_back() -> None:
    budget = Budget(Limits(max_cost=0.5), PRICE)
    assert [budget.allow(MOST) for _ in range(3)] == [True, True, False]
    budget.spend(MOST, Usage(1, 0, 100_000, 0))  # 0.1 in place of 0.2
    assert [budget.allow(MOST) for _ in range(2)] == [True, False]
    budget.spend(MOST, MOST)
    budget.spend(MOST, MOST)
    assert cost(budget.spent, PRICE) == pytest.approx(0.5)
    assert not budget.allow(Usage(1, 0, 1, 0))


def test_a_cap_is_reached_exactly() -> None:
    budget = Budget(Limits(max_cost=0.3), Price(prompt=0.1, completion=0.1))
    assert [budget.allow(Usage(1, 0, 1_000_000, 0)) for _ in range(4)] == [True, True, True, False]


def test_prompts_that_are_longer_than_estimated_are_reserved_longer() -> None:
    budget = Budget(Limits(max_cost=1.0), Price(prompt=1.0, completion=0.0))
    most = Usage(1, 0, 100_000, 10)
    assert budget.allow(most)
    budget.spend(most, Usage(1, 0, 200_000, 10))  # twice as long
    assert [budget.allow(most) for _ in range(5)] == [True, True, True, True, False]


def test_threads_never_get_more_than_there_is() -> None:
    budget, allowed = Budget(Limits(max_calls=500)), []

    def work() -> None:
        for _ in range(200):
            if budget.allow(MOST):
                allowed.append(1)
                budget.spend(MOST, MOST)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(allowed) == budget.spent.calls == 500


@pytest.mark.parametrize("price", [Price(), Price(prompt=1.0), Price(completion=1.0)])
def test_a_cap_on_money_needs_the_whole_price(price: Price) -> None:
    with pytest.raises(ConfigError, match="needs a price"):
        Budget(Limits(max_cost=1.0), price)


def test_the_stop_says_what_was_paid_and_how_to_go_on() -> None:
    budget = Budget(Limits(max_calls=1, max_cost=2.0), PRICE)
    budget.allow(MOST)
    budget.spend(MOST, MOST)
    told = str(budget.stop())
    assert "max_calls 1 and max_cost 2 EUR" in told
    assert "1 calls made, 100,000 prompt and 10,000 completion tokens, 0.2000 EUR" in told
    assert "run the same command again" in told
    assert budget.stop().exit_code == 3


def test_a_lost_try_counts_at_its_most_and_its_call_stays_reserved() -> None:
    budget = Budget(Limits(max_calls=2))
    assert budget.allow(MOST)
    assert budget.lose(MOST)
    assert budget.spent == replace(MOST, calls_unreported=1)
    assert not budget.lose(MOST)  # two were made, a third would be one too many
    budget.spend(MOST, Usage())
    assert budget.spent.calls == 2


def test_what_is_still_reserved_when_all_is_over_counts_as_spent() -> None:
    budget = Budget()
    assert budget.allow(MOST)
    assert budget.allow(MOST)
    budget.spend(MOST, Usage(1, 0, 90, 20))
    assert budget.settle() == Usage(2, 0, 100_090, 10_020, calls_unreported=1)
    assert budget.settle() == budget.spent


def test_a_bill_that_rests_on_estimates_says_so_and_is_never_0() -> None:
    bill = Bill.of("actual", Usage(3, 0, 900, 450, calls_unreported=2), 0, 1.0, PRICE)
    told = table([bill])
    assert "about 900" in told
    assert "about 0.0054 EUR" in told
    assert "Of 3 calls, 2 came without a whole usage report" in told
    assert bill.as_json()["calls_unreported"] == 2
    assert "about" not in table([Bill.of("actual", Usage(3, 0, 900, 450), 0, 1.0, PRICE)])
