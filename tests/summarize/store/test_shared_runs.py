"""Real runs, as processes, on one store at once: every answer is paid for once, whatever happens."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path

import summarize_users
from counting_server import CountingServer, counting_server
from forks import Forked
from postgres_server import PostgresServer
from trsr.summarize.store import Store
from trsr.summarize.store.admin import measure

USERS = 12
NEEDED = USERS * summarize_users.BLOCKS


def start(server: CountingServer, store_url: str, out: Path) -> Forked:
    # Patient: a request that is sent again because the machine is busy would be one more call for the
    # server, and no fault of the store's.
    patient = partial(summarize_users.summarise, timeout_s=600)
    return Forked(patient, server.base_url, store_url, USERS, out)


def check(runs: list[Forked], outs: list[Path], server: CountingServer, store_url: str) -> None:
    for run in runs:
        code, said = run.end()
        assert code == 0, said
    first, *others = (json.loads(out.read_text(encoding="utf-8")) for out in outs)
    assert len(first) == USERS
    assert all(other == first for other in others)
    assert (len(server.asked), set(server.asked.values())) == (NEEDED, {1})
    with Store(store_url) as store:
        stats = measure(store)
        assert (stats.usage.calls, stats.users, stats.under_way) == (NEEDED, USERS, 0)


def _wait_for(server: CountingServer, calls: int, runs: list[Forked]) -> None:
    while len(server.asked) < calls:
        assert None in [run.poll() for run in runs], f"{len(server.asked)} of {calls} calls"
        time.sleep(0.01)


def test_two_runs_on_one_store_at_once_pay_for_nothing_twice(store_url: str, tmp_path: Path) -> None:
    outs = [tmp_path / f"{number}.json" for number in range(2)]
    with counting_server(delay_s=0.02) as server:
        check([start(server, store_url, out) for out in outs], outs, server, store_url)


def test_a_run_whose_twin_is_killed_finishes_alone(store_url: str, tmp_path: Path) -> None:
    outs = [tmp_path / f"{number}.json" for number in range(2)]
    with counting_server(delay_s=0.05) as server:
        first, second = runs = [start(server, store_url, out) for out in outs]
        _wait_for(server, NEEDED // 3, runs)
        first.kill()
        first.end()
        code, said = second.end()
        assert code == 0, said
        assert len(json.loads(outs[1].read_text(encoding="utf-8"))) == USERS
        # What the killed one had under way has no answer that could have been kept; all else is paid once.
        assert len(server.asked) == NEEDED
        assert sum(server.asked.values()) - NEEDED <= summarize_users.CONCURRENCY


def test_postgresql_restarted_in_the_middle_of_two_runs_loses_and_repeats_nothing(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    store_url = postgres.make_database()
    outs = [tmp_path / f"{number}.json" for number in range(2)]
    with counting_server(delay_s=0.05) as server:
        runs = [start(server, store_url, out) for out in outs]
        for share, kill in ((4, False), (2, True)):
            _wait_for(server, NEEDED // share, runs)
            postgres.stop(kill=kill)
            time.sleep(0.5)  # away while both want it
            postgres.start()
        check(runs, outs, server, store_url)
