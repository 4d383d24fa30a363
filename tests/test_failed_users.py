"""Users whose summary can't be written: marked, told, ranked without one, and redone alone."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from counting_server import CountingServer, counting_server
from small_run import small_config_file
from trsr.artifacts import RunFolder
from trsr.cli import app
from trsr.records import FAILED, SUMMARY, USER

KEY = "sk-planted-0123456789"


@pytest.fixture
def server() -> Iterator[CountingServer]:
    with counting_server() as running:
        yield running


def configure(folder: Path, server: CountingServer, **more: Any) -> Path:
    writer = {
        "kind": "endpoint", "base_url": server.base_url, "model": "m", "api_key_env": "TRSR_TEST_KEY"
    }  # fmt: skip
    return small_config_file(
        folder,
        data__users=20,
        data__items=80,
        summary__writer=writer,
        summary__sampling__max_new_tokens=40,
        **more,
    )


def summarise(config: Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["summarize", str(config)])
    return done.exit_code, done.output


def test_a_failed_user_is_marked_told_and_redone_alone(
    tmp_path: Path, server: CountingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, folder = configure(tmp_path, server), RunFolder(tmp_path / "run")
    monkeypatch.setenv("TRSR_TEST_KEY", KEY)
    lock = threading.Lock()
    chosen: set[str] = set()

    def refuse_one_prompt(prompt: str) -> str | None:
        [user] = [message["content"] for message in json.loads(prompt) if message["role"] == "user"]
        asked = user.partition("\n\nNote: ")[0]
        with lock:
            chosen.add(asked if not chosen else next(iter(chosen)))
            return f"I'm sorry, {KEY} is no key of mine." if asked in chosen else None

    server.say = refuse_one_prompt
    code, said = summarise(config)
    assert code == 4, said
    assert "1 of 20 users failed and have none" in said
    table = pl.read_parquet(folder.summaries)
    failed = table.filter(pl.col(FAILED) != "")
    assert table.height == 20
    assert failed.height == 1
    assert failed[SUMMARY].to_list() == [""]
    assert failed[FAILED].to_list() == ["refusal: the answer was a refusal (2 attempts)"]
    asked = server.asked.total()

    server.say = None
    code, said = summarise(config)
    assert code == 0, said
    mended = pl.read_parquet(folder.summaries)
    assert mended.filter(pl.col(FAILED) != "").height == 0
    kept = table.filter(pl.col(FAILED) == "")[USER].to_list()
    assert (
        mended.filter(pl.col(USER).is_in(kept))
        .drop("calls")
        .equals(table.filter(pl.col(USER).is_in(kept)).drop("calls"))
    )
    # One user's blocks at most: the others are not asked for again, and no question is asked twice.
    assert 0 < server.asked.total() - asked <= 6
    assert max(server.asked.values()) == 1

    before = server.asked.total()
    code, said = summarise(config)
    assert "summarize: complete, skipped" in said
    assert server.asked.total() == before
    holding = [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    assert holding == []
    assert KEY not in said
