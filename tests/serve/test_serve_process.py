"""The service as a process: told to stop it finishes what it accepted; killed it has lost nothing."""

from __future__ import annotations

import json
import shutil
import signal
import threading
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from served import LATER, served, written_by
from served_process import ServedProcess

from counting_server import counting_server
from postgres_server import postgres_server
from trsr.artifacts import RunFolder
from trsr.config import Config
from trsr.users import Users

GONE = (urllib.error.URLError, ConnectionError, json.JSONDecodeError, OSError)


@pytest.fixture
def run(small: tuple[Config, RunFolder], tmp_path: Path) -> Path:
    return Path(shutil.copytree(small[1].path, tmp_path / "run"))


def comes_in(service: ServedProcess) -> bool:
    try:
        service.ask("/health")
    except GONE:
        return False
    return True


def test_told_to_stop_it_answers_what_it_accepted(run: Path) -> None:
    asked, release = threading.Event(), threading.Event()

    def say(prompt: str) -> None:
        asked.set()
        release.wait()

    with counting_server() as server, ThreadPoolExecutor(1) as client:
        server.say = say
        written_by(server.base_url, run)
        service = ServedProcess(run, "--summary-wait", "600", "--timeout", "600")
        status, ready = service.ask("/ready")
        assert (status, ready["ready"]) == (200, True)
        items = [f"P{number:04}" for number in range(1, 7)]
        answer = client.submit(service.ask, "/v1/rank", {"history": items[:3], "candidates": items})
        assert asked.wait(60)
        service.signal(signal.SIGTERM)
        while comes_in(service):  # nobody new does, soon
            pass
        release.set()
        status, ranking = answer.result()
        code, said = service.end()
    assert status == 200
    assert ranking["summary"].startswith("Likes things of kind")
    assert len(ranking["items"]) == 6
    assert code in (0, -signal.SIGTERM), said
    assert "Traceback" not in said


def test_killed_it_has_lost_no_event_that_it_accepted(run: Path) -> None:
    service = ServedProcess(run)
    accepted: list[tuple[str, str]] = []
    enough = threading.Event()

    def append(client: int) -> None:
        for number in range(10_000):
            event = {"user": f"u{client}", "item": f"P{1 + number % 80:04}", "time": LATER + number}
            try:
                status, _ = service.ask("/v1/events", {"events": [event]})
            except GONE:
                return
            assert status == 202
            accepted.append((event["user"], event["item"]))
            if len(accepted) >= 24:
                enough.set()

    with ThreadPoolExecutor(4) as clients:
        running = [clients.submit(append, client) for client in range(4)]
        enough.wait()
        service.signal(signal.SIGKILL)
        for each in running:
            each.result()
    assert service.end()[0] == -signal.SIGKILL
    with Users(run / "users.sqlite") as users:
        known = {row.user_id: row.history for row in users.find(f"u{client}" for client in range(4)).values()}
    for user, history in known.items():
        mine = [item for who, item in accepted if who == user]
        # One more may have been written whose answer was on its way.
        assert history[: len(mine)] == mine
        assert len(history) - len(mine) <= 1
    # What was not summarised is noted, and the next start writes it.
    with served(run) as again:
        again.until(lambda: all(again.profile(user)["unread_events"] == 0 for user in known))
        assert all(again.profile(user)["summary"] for user in known)


def test_two_services_share_users_and_a_database_and_pay_for_no_answer_twice(run: Path) -> None:
    """The database goes away meanwhile: events are taken and users ranked, and summaries follow later."""
    with counting_server() as server, postgres_server() as database:
        written_by(server.base_url, run, **{"summary.store": database.make_database()})
        other = ServedProcess(run)
        with served(run) as service, ThreadPoolExecutor(2) as clients:
            items = service.items[:12]

            def events(start: int) -> dict[str, Any]:
                told = enumerate(items, start)
                return {"events": [{"user": "both", "item": item, "time": LATER + at} for at, item in told]}

            def appended_by_both(start: int) -> None:
                there = clients.submit(other.ask, "/v1/events", events(start))
                here = clients.submit(service.post, "/v1/events", events(start))
                assert (there.result()[0], here.result().status_code) == (202, 202)

            def is_read() -> bool:
                return bool(service.profile("both")["unread_events"] == 0)

            appended_by_both(0)
            appended_by_both(100)
            service.until(is_read)
            summary = service.profile("both")["summary"]
            database.stop()
            appended_by_both(200)
            while_away = service.rank(user="both", candidates=items)
            assert while_away["summary"] == summary
            assert while_away["unread_events"] == len(items)
            database.start()
            service.until(is_read)
            profile = service.profile("both")
            assert profile["summary"] != summary
            assert [event["item"] for event in profile["history"]] == items * 3
            assert other.ask("/v1/profile?user=both")[1]["history"] == profile["history"]
            other.signal(signal.SIGTERM)
            other.end()
        assert set(server.asked.values()) == {1}
