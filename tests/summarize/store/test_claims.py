from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections import Counter

import pytest
import sqlalchemy as sa
from store_process import ask
from test_store_answers import ANSWER, start

from trsr.summarize.store import Store
from trsr.summarize.store.schema import OWNERS

KEYS = [ask(number).key for number in range(5)]


def said(process: subprocess.Popen[str]) -> list[int]:
    return [int(line) for line in process.communicate(timeout=120)[0].split()]


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
    payers = [start("pay", store_url, 40, 0.02, 30.0) for _ in range(3)]
    paid = [said(payer) for payer in payers]
    assert [payer.returncode for payer in payers] == [0, 0, 0]
    assert Counter(number for numbers in paid for number in numbers) == Counter(range(40))
    assert sum(map(bool, paid)) >= 2  # they did share the work


def test_the_claims_of_a_killed_process_of_this_machine_are_free_at_once(store_url: str) -> None:
    holder = start("hold", store_url, 5, 600.0)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "5\n"
    with Store(store_url, lease_s=600.0) as store:
        assert store.claim(KEYS) == set()
        os.kill(holder.pid, signal.SIGKILL)
        holder.communicate()
        assert store.claim(KEYS) == set(KEYS)


def test_a_killed_payer_is_replaced_and_only_its_call_under_way_is_repeated(store_url: str) -> None:
    first = start("pay", store_url, 20, 0.05, 30.0)
    assert first.stdout is not None
    before = [int(first.stdout.readline()) for _ in range(7)]
    second = start("pay", store_url, 20, 0.01, 30.0)
    first.kill()
    before += said(first)
    after = said(second)
    assert second.returncode == 0
    assert sorted({*before, *after}) == list(range(20))
    assert len(before) + len(after) <= 21


def test_an_owner_elsewhere_that_stopped_is_replaced_after_its_lease(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trsr.summarize.store.claims._machine", lambda: "elsewhere")
    holder = Store(store_url, lease_s=600.0)  # its heart beats every 200 s: as good as dead for what follows
    assert holder.claim(KEYS) == set(KEYS)
    monkeypatch.undo()
    with Store(store_url, lease_s=0.6) as store:
        began = time.monotonic()
        while not (ours := store.claim(KEYS)):
            time.sleep(store.poll_s)
        assert ours == set(KEYS)
        assert time.monotonic() - began >= 0.6
        holder.put(ask(0), ANSWER)  # it wasn't dead after all: its answer counts, and nothing breaks
        assert holder.claim(KEYS) == set()
        holder.close()
        assert store.claim(KEYS) == set()


def test_an_owner_that_lives_keeps_its_claims_for_many_leases(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = [0.0]
    with Store(store_url, lease_s=0.9) as owner, Store(store_url, lease_s=0.9) as waiter:
        owner.claim(KEYS)
        # The waiter's clock goes on by as much as the owner promises between two signs of life, when it has
        # given one: a machine on which the owner comes late is not at fault here.
        monkeypatch.setattr(time, "monotonic", lambda: at[0])
        beats = sa.select(OWNERS.c.beat).where(OWNERS.c.owner == owner._claims.owner)
        for _ in range(12):
            before = owner.database.run("read", lambda connection: connection.scalar(beats))
            while owner.database.run("read", lambda connection: connection.scalar(beats)) == before:
                time.sleep(0.01)
            at[0] += 0.3
            assert waiter.claim(KEYS) == set()
        monkeypatch.undo()


def test_a_clock_that_jumps_frees_no_claim(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(store_url, lease_s=30.0) as owner, Store(store_url, lease_s=30.0) as waiter:
        owner.claim(KEYS)
        assert waiter.claim(KEYS) == set()
        real = time.time
        for jump in (86400 * 365, -86400 * 365):
            monkeypatch.setattr(time, "time", lambda jump=jump: real() + jump)
            assert waiter.claim(KEYS) == set()


def test_a_watcher_that_slept_does_not_take_its_own_sleep_for_the_owners(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trsr.summarize.store.claims._machine", lambda: "elsewhere")
    holder = Store(store_url, lease_s=600.0)
    holder.claim(KEYS)
    monkeypatch.undo()
    with Store(store_url, lease_s=3.0) as store:
        assert store.claim(KEYS) == set()
        real = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: real() + 100)
        assert store.claim(KEYS) == set()  # the lease begins anew
    holder.close()


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
