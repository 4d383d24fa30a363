"""Faults around the calls: full disk, read-only store, a clock that jumps, a server that goes and comes."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

import summarize_users
from faulty_server import Running, faulty_server
from forks import Forked
from summarize_users import BLOCKS, CONCURRENCY

USERS = 12
NEEDED = USERS * BLOCKS


class Done(NamedTuple):
    code: int
    said: str


def summarise(server: Running, store_url: str, out: Path, **more: bool) -> Done:
    process = Forked(partial(summarize_users.summarise, **more), server.base_url, store_url, USERS, out)
    return Done(*process.end())


def check_whole(out: Path) -> None:
    finals = json.loads(out.read_text(encoding="utf-8"))
    assert len(finals) == USERS
    assert all(text.startswith("Likes things of kind ") for text in finals.values())


def stored(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return int(connection.execute("SELECT count(*) FROM answers").fetchone()[0])
    finally:
        connection.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 300 kB; only whoever may mount one has it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    made = subprocess.run([mount, "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)], check=False)
    if made.returncode != 0:
        pytest.skip("this machine mounts no tmpfs")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_file_that_can_not_grow_stops_the_run_and_loses_no_answer(tmp_path: Path) -> None:
    store, out = tmp_path / "answers.db", tmp_path / "out.json"
    with faulty_server(delay_s=0.005) as server:
        stopped = summarise(server, f"sqlite:///{store}", out, small_files=True)
        assert stopped.code == 1
        assert stopped.said.startswith("StoreError: summary.store: "), stopped.said
        paid = server.stats()["answered"]
        assert 0 < paid < NEEDED
        # What was under way when the disk was full could not be kept anywhere.
        assert stored(store) >= paid - CONCURRENCY
        again = summarise(server, f"sqlite:///{store}", out)
        assert again.code == 0, again.said
        assert server.stats()["requests"] <= NEEDED + CONCURRENCY
    check_whole(out)


def test_a_full_disk_stops_the_run_and_loses_no_answer(tmp_path: Path, small_disk: Path) -> None:
    store, out = small_disk / "answers.db", tmp_path / "out.json"
    with faulty_server(delay_s=0.005) as server:
        stopped = summarise(server, f"sqlite:///{store}", out)
        assert stopped.code == 1
        assert stopped.said.startswith("StoreError: summary.store: "), stopped.said
        paid = server.stats()["answered"]
        assert 0 < paid < NEEDED
        moved = tmp_path / "answers.db"
        for file in small_disk.iterdir():  # as one does who finds the disk full
            shutil.copy(file, tmp_path / file.name)
        assert stored(moved) >= paid - CONCURRENCY
        again = summarise(server, f"sqlite:///{moved}", out)
        assert again.code == 0, again.said
        assert server.stats()["requests"] <= NEEDED + CONCURRENCY
    check_whole(out)


def test_a_read_only_store_stops_the_run_before_anything_is_paid(tmp_path: Path) -> None:
    store, out = tmp_path / "answers.db", tmp_path / "out.json"
    with faulty_server() as server:
        assert summarise(server, f"sqlite:///{store}", out).code == 0
        before = server.stats()["requests"]
        connection = sqlite3.connect(store)
        connection.execute("DELETE FROM answers WHERE rowid % 2 = 0")
        connection.commit()
        connection.close()
        stopped = summarise(server, f"sqlite:///file:{store}?mode=ro&uri=true", out)
        assert stopped.code == 1
        assert stopped.said.startswith("StoreError: summary.store: "), stopped.said
        assert server.stats()["requests"] == before


def test_a_clock_that_jumps_by_days_changes_nothing(tmp_path: Path) -> None:
    store, out = tmp_path / "answers.db", tmp_path / "out.json"
    kinds = ("429_date", "429_seconds", "503", "close")
    with faulty_server(seed=5, faults=0.2, kinds=kinds) as server:
        # A wait that was measured by the wall clock would last up to a day.
        done = summarise(server, f"sqlite:///{store}", out, jumping_clock=True)
        assert done.code == 0, done.said
        stats = server.stats()
    assert stats["requests"] == NEEDED + sum(stats["failed"].values())
    assert stats["failed"]["429_date"] > 0
    assert stored(store) == NEEDED
    check_whole(out)


@pytest.mark.parametrize("away_s", [4.0, pytest.param(20.0, marks=pytest.mark.slow)])
def test_a_server_that_goes_away_and_comes_back(tmp_path: Path, away_s: float) -> None:
    store, out = tmp_path / "answers.db", tmp_path / "out.json"
    with faulty_server(delay_s=0.1) as server:
        results: list[Done] = []
        worker = threading.Thread(target=lambda: results.append(summarise(server, f"sqlite:///{store}", out)))
        worker.start()
        while server.stats()["answered"] < NEEDED // 3:
            assert worker.is_alive()
            time.sleep(0.02)
        before = server.stats()
        server.stop()
        time.sleep(away_s)
        server.start_again()
        worker.join()
        assert results[0].code == 0, results[0].said
        after = server.stats()
    # The calls that were under way when it went are asked for again, and no others.
    assert before["answered"] + after["answered"] <= NEEDED + 2 * CONCURRENCY
    assert stored(store) == NEEDED
    check_whole(out)
