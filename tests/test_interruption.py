"""A run that is killed, again and again, ends in the artifacts of a run that was not."""

import signal
from pathlib import Path

import polars as pl
from command_line import trsr

from counting_server import CountingServer, counting_server
from killed_program import killed_at
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


def test_a_run_killed_at_many_moments_ends_like_one_that_was_not(tmp_path: Path) -> None:
    with counting_server() as quiet:
        reference = run(load(configure(tmp_path / "whole", quiet)), say=lambda line: None)
        needed = len(quiet.asked)
    with counting_server() as server:
        config = configure(tmp_path / "killed", server)
        folder = RunFolder(tmp_path / "killed" / "run")
        moments = [
            ("os.fsync", 4),  # among the tables of the data
            ("trsr.summarize.store.answers.Store.put", 20),  # an answer came, and isn't kept yet
            ("trsr.hf.trainer.PlannedTrainer.training_step", 2),
            ("trsr.ranking.training._RankingTrainer.restore_best", 1),
            ("os.fsync", 2),  # the first table of the stage after training
        ]
        for function, number in moments:
            died = killed_at(function, number, "run", config)
            assert died.returncode == -signal.SIGKILL, (function, died.stdout)
        assert list(folder.path.rglob(".*"))
        last = trsr("run", config)
        assert last.returncode == 0, last.stderr
        asked = server.asked

    assert len(asked) == needed
    # A request that was under way when its process died has no answer that could have been kept.
    assert sum(asked.values()) - needed <= CONCURRENCY
    for name in ("items", "histories", "candidates", "summaries"):
        assert getattr(folder, name).read_bytes() == getattr(reference, name).read_bytes(), name
    ours, theirs = (pl.read_parquet(made.scores / "recurrent.parquet") for made in (folder, reference))
    assert ours.drop("score").equals(theirs.drop("score"))
    assert (ours["score"] - theirs["score"]).abs().max() < 1e-5
    assert not folder.checkpoints.exists()
    assert [path.name for path in folder.path.rglob(".*")] == []


def test_an_answer_that_came_is_never_asked_for_again(tmp_path: Path) -> None:
    with counting_server() as server:
        config = configure(tmp_path / "run", server)
        died = killed_at("trsr.summarize.store.answers.Store.put", 10, "summarize", config)
        assert died.returncode == -signal.SIGKILL, died.stdout
        before = dict(server.asked)
        last = trsr("summarize", config)
        assert last.returncode == 0, last.stderr
        again = [prompt for prompt, times in server.asked.items() if times > 1]
        assert len(before) >= 10
        assert 1 <= len(again) <= CONCURRENCY
