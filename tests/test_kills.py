"""kill -9 after random numbers of answers, with a server in a process of its own that counts."""

from __future__ import annotations

import json
import random
import sqlite3
import time
from pathlib import Path

import pytest

import summarize_users
from faulty_server import Running, faulty_server
from forks import Forked
from summarize_users import BLOCKS, CONCURRENCY


def start(server: Running, store: Path, users: int, out: Path) -> Forked:
    return Forked(summarize_users.summarise, server.base_url, f"sqlite:///{store}", users, out)


def kill_among_calls(process: Forked, server: Running, held: int) -> None:
    """Kill a run when the server, which had held back `held` answers before, holds one of its calls."""
    while server.stats()["failed"].get("held", 0) == held:
        assert process.poll() is None, process.end()[1]
        time.sleep(0.01)
    process.kill()
    process.end()


def stored(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("SELECT count(*) FROM answers").fetchone()[0])
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("kills", "users", "faults"),
    [
        (6, 20, 0.0),
        pytest.param(50, 150, 0.0, marks=pytest.mark.slow),
        pytest.param(50, 150, 0.3, marks=pytest.mark.slow),
    ],
)
def test_no_answer_is_lost_and_none_repeated(tmp_path: Path, kills: int, users: int, faults: float) -> None:
    moments = random.Random(kills)
    store, out = tmp_path / "answers.db", tmp_path / "out.json"
    needed = BLOCKS * users
    with faulty_server(seed=7, faults=faults, delay_s=0.03) as server:
        kept = 0
        for killed in range(1, kills + 1):
            held = server.stats()["failed"].get("held", 0)
            # So few that no run ends before it is killed, however fast it is or slow this program.
            server.hold(moments.randrange(needed // kills))
            kill_among_calls(start(server, store, users, out), server, held)
            now, stats = stored(store), server.stats()
            # What the server has answered is kept, but for what was under way at this or an earlier kill.
            assert now >= stats["answered"] - CONCURRENCY * killed
            assert now >= kept
            kept = now
        server.hold(10**9)
        code, said = start(server, store, users, out).end()
        assert code == 0, said
        stats = server.stats()
    failed = sum(stats["failed"].values())
    print(
        f"{kills} kills among calls; needed {needed}, made {stats['requests']}, failed {failed}, "
        f"answered twice {stats['answered_twice']}, stored {stored(store)}"
    )
    assert stats["prompts"] == needed == stored(store)
    # A call that was under way when its process died has no answer that could have been kept.
    assert stats["requests"] - failed - needed <= CONCURRENCY * kills
    finals = json.loads(out.read_text(encoding="utf-8"))
    assert len(finals) == users
    assert all(text.startswith("Likes things of kind ") for text in finals.values())
    assert len(set(finals.values())) == users
