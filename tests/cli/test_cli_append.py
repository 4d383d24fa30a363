from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from command_line import trsr

from counting_server import CountingServer, counting_server
from small_run import small_config_file
from trsr.artifacts import RunFolder
from trsr.config import load
from trsr.pipeline import run
from trsr.stages.summarize import users_of
from trsr.summarize.summarizer import Summarizer
from trsr.summarize.writer import to_frame
from trsr.users import Users

NEXT_CENTURY = 4_102_444_800


def prepare(folder: Path, server: CountingServer, **overrides: Any) -> RunFolder:
    writer = {"kind": "endpoint", "base_url": server.base_url, "model": "counted"}
    config = small_config_file(folder, data__users=30, summary__writer=writer, **overrides)
    return run(load(config), until="summarize", say=lambda line: None)


def events(path: Path, rows: list[tuple[Any, ...]]) -> Path:
    pl.DataFrame(rows, schema=["user_id", "item_id", "time"][: len(rows[0])], orient="row").write_csv(path)
    return path


def note(prompt: str) -> str:
    return f"ADD lately: things of kind {hashlib.sha256(prompt.encode()).hexdigest()[:8]}"


@pytest.mark.parametrize("paradigm", ["recurrent", "hierarchical", "sections"])
def test_new_events_cost_their_blocks_alone_and_give_the_summary_of_the_whole(
    tmp_path: Path, paradigm: str
) -> None:
    with counting_server() as server:
        server.say = note if paradigm == "sections" else None
        folder = prepare(tmp_path, server, summary__paradigm=paradigm)
        own = folder.summaries.read_bytes()
        histories = pl.read_parquet(folder.histories)
        user, history = histories["user_id"][0], list(histories["history"][0])
        item = str(pl.read_parquet(folder.items)["item_id"][0])
        before = sum(server.asked.values())
        for step in range(1, 4):  # one event after the other
            done = trsr(
                "append",
                folder.path,
                events(tmp_path / f"{step}.csv", [(who, item, NEXT_CENTURY + step) for who in (user, "new")]),
            )
            assert done.returncode == 0, done.stderr
        # A block of each user at each of three steps, and the combining of the first user's.
        assert sum(server.asked.values()) - before <= (6 + 3 if paradigm == "hierarchical" else 3 + 3)
        with Users(folder.users) as users:
            rows = users.find([user, "new"])
        assert rows[user].history == [*history, item, item, item]
        assert rows["new"].history == [item] * 3
        assert folder.summaries.read_bytes() == own
        # The same histories, written from the beginning.
        longer = pl.DataFrame({"user_id": [user], "history": [rows[user].history]})
        config, items = load(folder.config), pl.read_parquet(folder.items)
        with Summarizer(config, items) as summarizer:
            table = to_frame(summarizer.summarize(users_of(config, items, longer)[0]))
        [whole] = table.iter_rows(named=True)
    assert rows[user].summary == whole["summary"]
    assert rows[user].blocks == whole["block_summaries"]


@pytest.fixture(scope="module")
def summarised(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    config = small_config_file(tmp_path_factory.mktemp("summarised"))
    return run(load(config), until="summarize", say=lambda line: None)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("new.txt", "", "ending must be one of .csv"),
        ("new.csv", "user,item\na,b\n", "no column 'user_id', 'item_id'"),
        ("new.csv", "user_id,item_id\nu,nothing\n", "no user has an interaction with a known item"),
        ("new.csv", "user_id,item_id,time\nu,nothing,soon\n", "new.csv:2: no time of column 'time'"),
        ("absent.csv", None, "no such file"),
    ],
)
def test_wrong_events_are_told(
    summarised: RunFolder, tmp_path: Path, name: str, text: str | None, told: str
) -> None:
    before = summarised.users.read_bytes()
    if text is not None:
        (tmp_path / name).write_text(text)
    done = trsr("append", summarised.path, tmp_path / name)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert summarised.users.read_bytes() == before


def test_the_keyphrase_writer_goes_on_too(summarised: RunFolder, tmp_path: Path) -> None:
    user = pl.read_parquet(summarised.histories)["user_id"][1]
    item = str(pl.read_parquet(summarised.items)["item_id"][0])
    done = trsr("append", summarised.path, events(tmp_path / "new.csv", [(user, item)]))
    assert done.returncode == 0, done.stderr
    with Users(summarised.users) as users:
        assert users.get(user).summary
        assert users.get(user).history[-1] == item


def test_a_cap_is_that_of_the_command_not_of_the_run(tmp_path: Path) -> None:
    with counting_server() as server:
        folder = prepare(tmp_path, server, summary__limits={"max_calls": 1000})
        config = folder.config.read_text()
        folder.config.write_text(config.replace("max_calls: 1000", "max_calls: 0"))
        items = pl.read_parquet(folder.items)["item_id"]
        new = events(tmp_path / "new.csv", [(f"new {number}", items[number], 5) for number in range(3)])
        stopped = trsr("append", folder.path, new, "--max-calls", "1")
        with Users(folder.users) as users:
            assert (stopped.returncode, users.find(["new 0"])) == (3, {}), stopped.stderr
        done = trsr("append", folder.path, new)
        assert done.returncode == 0, done.stderr
    assert "3 users" in done.stdout


def test_a_folder_without_a_run_is_told(tmp_path: Path) -> None:
    assert "not a run folder" in trsr("append", tmp_path, tmp_path / "new.csv").stderr
