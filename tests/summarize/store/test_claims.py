from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
from store_process import ANSWER, ask, hold, paid_by, start_payers

from forks import Forked
from trsr.summarize.store import Store
from trsr.summarize.store.database import OWNERS

KEYS = [ask(number).key for number in range(5)]


def beats(store: Store) -> int:
    """Give the heartbeats of the owner that has most."""
    return store.database.run(
        "read", lambda connection: connection.scalar(sa.select(sa.func.max(OWNERS.c.beat)))
    )


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let leases be measured by a clock that stands still, and give what moves it on."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def add(seconds: float) -> None:
        now[0] += seconds

    return add


@pytest.fixture
def elsewhere(store_url: str) -> Iterator[Store]:
    """A store object of another machine, whose heart does not beat while a test lasts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trsr.summarize.store.answers._machine", lambda: "elsewhere")
        holder = Store(store_url, lease_s=36_000.0)
        assert holder.claim(KEYS) == set(KEYS)
    yield holder
    holder.close()


def test_what_is_claimed_is_nobody_elses(store_url: str) -> None:
    with Store(store_url) as first, Store(store_url) as second:
        assert first.claim(KEYS[:3]) == set(KEYS[:3])
        assert first.claim(KEYS[:3]) == set()  # a thread of the same process is somebody else
        assert second.claim(KEYS) == set(KEYS[3:])
        first.put(ask(0), ANSWER)
        assert second.claim(KEYS[:3]) == set()  # the first is answered, the others are claimed
        first.release(KEYS[1:3])
        assert second.claim(KEYS[:3]) == set(KEYS[1:3])


def test_a_store_that_is_closed_gives_its_claims_back(store_url: str) -> None:
    with Store(store_url) as first:
        first.claim(KEYS)
    with Store(store_url) as second:
        assert second.claim(KEYS) == set(KEYS)


def test_processes_on_one_store_pay_for_nothing_twice(store_url: str) -> None:
    payers = start_payers(3, store_url, 40, 0.02, 30.0)
    paid = [paid_by(payer) for payer in payers]
    assert [payer.poll() for payer in payers] == [0, 0, 0]
    assert Counter(number for numbers in paid for number in numbers) == Counter(range(40))
    assert sum(map(bool, paid)) >= 2  # they did share the work


def test_the_claims_of_a_killed_process_of_this_machine_are_free_at_once(store_url: str) -> None:
    holder = Forked(hold, store_url, 5, 600.0)
    assert holder.stdout.readline() == "5\n"
    with Store(store_url, lease_s=600.0) as store:
        assert store.claim(KEYS) == set()
        holder.kill()
        holder.end()
        assert store.claim(KEYS) == set(KEYS)


def test_a_killed_payer_is_replaced_and_only_its_call_under_way_is_repeated(store_url: str) -> None:
    [first] = start_payers(1, store_url, 20, 0.05, 30.0)
    before = [int(first.stdout.readline()) for _ in range(7)]
    first.kill()
    before += paid_by(first)
    [second] = start_payers(1, store_url, 20, 0.01, 30.0)
    after = paid_by(second)
    assert second.poll() == 0
    assert sorted({*before, *after}) == list(range(20))
    assert len(before) + len(after) <= 21


def test_an_owner_elsewhere_that_stopped_is_replaced_after_its_lease(
    store_url: str, elsewhere: Store, pass_time: Callable[[float], None]
) -> None:
    with Store(store_url, lease_s=8.0) as store:
        assert store.claim(KEYS) == set()
        for _ in range(3):
            pass_time(2.0)
            assert store.claim(KEYS) == set()
        pass_time(2.0)
        assert store.claim(KEYS) == set(KEYS)
        elsewhere.put(ask(0), ANSWER)  # it wasn't dead after all: its answer counts, and nothing breaks
        assert elsewhere.claim(KEYS) == set()
        elsewhere.close()
        assert store.claim(KEYS) == set()


def test_an_owner_that_lives_keeps_its_claims_for_many_leases(
    store_url: str, pass_time: Callable[[float], None]
) -> None:
    with Store(store_url, lease_s=0.3) as owner, Store(store_url, lease_s=8.0) as waiter:
        owner.claim(KEYS)
        for _ in range(12):
            before = beats(waiter)
            while beats(waiter) == before:  # whenever the machine lets its heart beat
                time.sleep(0.01)
            pass_time(2.0)
            assert waiter.claim(KEYS) == set()


def test_a_clock_that_jumps_frees_no_claim(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(store_url, lease_s=30.0) as owner, Store(store_url, lease_s=30.0) as waiter:
        owner.claim(KEYS)
        assert waiter.claim(KEYS) == set()
        real = time.time
        for jump in (86400 * 365, -86400 * 365):
            monkeypatch.setattr(time, "time", lambda jump=jump: real() + jump)
            assert waiter.claim(KEYS) == set()


def test_a_watcher_that_slept_does_not_take_its_own_sleep_for_the_owners(
    store_url: str, elsewhere: Store, pass_time: Callable[[float], None]
) -> None:
    with Store(store_url, lease_s=3.0) as store:
        assert store.claim(KEYS) == set()
        pass_time(100.0)
        assert store.claim(KEYS) == set()  # the lease begins anew


def test_threads_of_one_store_share_the_claims_out(store_url: str) -> None:
    taken: list[set[str]] = []
    keys = [ask(number).key for number in range(60)]
    with Store(store_url) as store:
        threads = [threading.Thread(target=lambda: taken.append(store.claim(keys))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert Counter(key for part in taken for key in part) == Counter(keys)
