"""kill -9 at random moments of the calls, with a server in a process of its own that counts."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from faulty_server import Running, faulty_server
from summarize_users import BLOCKS, CONCURRENCY

SCRIPT = Path(__file__).with_name("summarize_users.py")


def start(server: Running, store: Path, users: int, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), server.base_url, f"sqlite:///{store}", str(users), str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def kill_among_calls(process: subprocess.Popen[str], server: Running, moment_s: float) -> bool:
    """Kill a run `moment_s` after its first call; say whether it was alive."""
    before = server.stats()["requests"]
    while process.poll() is None and server.stats()["requests"] == before:
        time.sleep(0.01)
    time.sleep(moment_s)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return alive


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
        pytest.param(50, 150, 0.0, marks=[pytest.mark.slow, pytest.mark.timeout(1800)]),
        pytest.param(50, 150, 0.3, marks=[pytest.mark.slow, pytest.mark.timeout(1800)]),
    ],
)
def test_no_answer_is_lost_and_none_repeated(tmp_path: Path, kills: int, users: int, faults: float) -> None:
    moments = random.Random(kills)
    store, out = tmp_path / "answers.db", tmp_path / "out.json"
    needed = BLOCKS * users
    with faulty_server(seed=7, faults=faults, delay_s=0.03) as server:
        hit = kept = 0
        for _ in range(kills):
            process = start(server, store, users, out)
            hit += kill_among_calls(process, server, moments.uniform(0.0, 0.4))
            now, stats = stored(store), server.stats()
            # What the server has answered is kept, but for what was under way at this or an earlier kill.
            assert now >= stats["answered"] - CONCURRENCY * hit
            assert now >= kept
            kept = now
        last = start(server, store, users, out)
        said, _ = last.communicate(timeout=250)
        assert last.returncode == 0, said
        stats = server.stats()
    failed = sum(stats["failed"].values())
    print(
        f"{hit} of {kills} kills among calls; needed {needed}, made {stats['requests']}, failed {failed}, "
        f"answered twice {stats['answered_twice']}, stored {stored(store)}"
    )
    assert hit >= 0.8 * kills
    assert stats["prompts"] == needed == stored(store)
    # A call that was under way when its process died has no answer that could have been kept.
    assert stats["requests"] - failed - needed <= CONCURRENCY * hit
    finals = json.loads(out.read_text(encoding="utf-8"))
    assert len(finals) == users
    assert all(text.startswith("Likes things of kind ") for text in finals.values())
    assert len(set(finals.values())) == users
