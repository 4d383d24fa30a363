"""A run that is killed, again and again, ends in the artifacts of a run that was not."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl

from counting_server import CountingServer, counting_server
from small_run import small_config_file
from trsr.artifacts import RunFolder
from trsr.config import load
from trsr.pipeline import run

CONCURRENCY = 2


def configure(folder: Path, server: CountingServer) -> Path:
    folder.mkdir()
    writer = {
        "kind": "endpoint", "base_url": server.base_url, "model": "counted", "concurrency": CONCURRENCY
    }  # fmt: skip
    return small_config_file(folder, data__users=40, summary__writer=writer)


def start(config: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from trsr.cli import main; main()", "run", str(config)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def kill_while(config: Path, moment_s: float, marker: Path | None = None) -> bool:
    """Kill a run `moment_s` after `marker` appears (else after its start); say whether it was alive."""
    process = start(config)
    while marker is not None and not marker.exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(moment_s)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return alive


def test_a_run_killed_at_many_moments_ends_like_one_that_was_not(tmp_path: Path) -> None:
    moments = random.Random(3)
    with counting_server() as quiet:
        reference = run(load(configure(tmp_path / "whole", quiet)), say=lambda line: None)
        needed = len(quiet.asked)
    with counting_server(delay_s=0.05) as server:
        config = configure(tmp_path / "killed", server)
        folder = RunFolder(tmp_path / "killed" / "run")
        store = tmp_path / "killed" / "answers.db"
        kills = [
            kill_while(config, 0.3, folder.config),
            *(kill_while(config, moments.uniform(0.0, 0.6), store) for _ in range(3)),
            kill_while(config, moments.uniform(0.0, 0.5), folder.summaries),
            kill_while(config, moments.uniform(0.0, 0.5), folder.checkpoints / "fine_tuning"),
            kill_while(config, 0.0, folder.model / "ranker.json"),
            kill_while(config, 0.0, folder.scores),
        ]
        assert sum(kills) >= 5
        last = start(config)
        output, _ = last.communicate(timeout=200)
        assert last.returncode == 0, output
        asked = server.asked

    assert len(asked) == needed
    # A request that was under way when its process died has no answer that could have been kept.
    assert sum(asked.values()) - needed <= CONCURRENCY * sum(kills)
    for name in ("items", "histories", "candidates", "summaries"):
        assert getattr(folder, name).read_bytes() == getattr(reference, name).read_bytes(), name
    ours, theirs = pl.read_parquet(folder.scores), pl.read_parquet(reference.scores)
    assert ours.drop("p_yes").equals(theirs.drop("p_yes"))
    assert (ours["p_yes"] - theirs["p_yes"]).abs().max() < 1e-5
    assert not folder.checkpoints.exists()
    assert [path.name for path in folder.path.rglob(".*")] == []


def test_an_answer_that_came_is_never_asked_for_again(tmp_path: Path) -> None:
    with counting_server(delay_s=0.02) as server:
        config = configure(tmp_path / "run", server)
        store = tmp_path / "run" / "answers.db"
        assert kill_while(config, 0.5, store)
        before = dict(server.asked)
        last = start(config)
        output, _ = last.communicate(timeout=200)
        assert last.returncode == 0, output
        again = [prompt for prompt, times in server.asked.items() if times > 1]
        assert len(before) > CONCURRENCY
        assert len(again) <= CONCURRENCY
