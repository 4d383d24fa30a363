"""Summaries and scores on a real Ray cluster of two nodes, one of which is killed in the middle."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import ray
from ray.cluster_utils import Cluster as LocalCluster

from counting_server import counting_server
from small_run import small_config
from trsr.artifacts import RunFolder
from trsr.cluster.ray import map_rows, summarize_on_cluster
from trsr.config import Config
from trsr.config.evaluation import Cluster
from trsr.data.prepare import prepare
from trsr.errors import BudgetError, RunError, WriterError
from trsr.pipeline import run
from trsr.records import USER
from trsr.summarize.cost import Budget

WORKERS = 2
pytestmark = [
    # Ray's own; each concerns its inside.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[LocalCluster]:
    # Ray makes its workers nice, so that on a busy machine they would hardly get to run.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  its name
    size: dict[str, Any] = {"object_store_memory": 100 * 2**20, "include_dashboard": False}
    cluster = LocalCluster(initialize_head=True, head_node_args={"num_cpus": 2, **size})
    cluster.add_node(num_cpus=2, object_store_memory=100 * 2**20)
    yield cluster
    cluster.shutdown()


def on(config: Config, cluster: LocalCluster, workers: int = WORKERS) -> Config:
    """Let actors do the work, each of which loads the libraries: no more of them than a test needs."""
    settings = Cluster(kind="ray", address=cluster.address, workers=workers, cpus=1, users=4)
    return config.model_copy(update={"cluster": settings})


def test_a_run_on_the_cluster_ends_in_the_tables_of_one_machine(
    two_nodes: LocalCluster, small: tuple[Config, RunFolder], tmp_path: Path
) -> None:
    here = small[1]
    there = run(on(small_config(tmp_path / "there"), two_nodes), until="score", say=lambda line: None)
    assert there.summaries.read_bytes() == here.summaries.read_bytes()
    ours, theirs = (pl.read_parquet(folder.scores / "recurrent.parquet") for folder in (there, here))
    assert ours.drop("score").equals(theirs.drop("score"))
    assert (ours["score"] - theirs["score"]).abs().max() < 1e-5


def test_a_killed_node_costs_no_answer_and_changes_no_summary(
    two_nodes: LocalCluster, tmp_path: Path
) -> None:
    prepared = prepare(small_config(tmp_path, data__users=80))
    with counting_server(delay_s=0.08) as server:
        writer = {"kind": "endpoint", "base_url": server.base_url, "model": "counted", "concurrency": 2}
        config = small_config(tmp_path / "run", summary__writer=writer, data__users=80)
        doomed = next(node for node in two_nodes.worker_nodes)

        def kill() -> None:
            while sum(server.asked.values()) < 20:
                time.sleep(0.02)
            two_nodes.remove_node(doomed, allow_graceful=False)

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        budget = Budget()
        there = summarize_on_cluster(on(config, two_nodes), prepared.items, prepared.histories, budget)
        killer.join()
        needed, made = len(server.asked), sum(server.asked.values())
        two_nodes.add_node(num_cpus=2, object_store_memory=100 * 2**20)
        again = pl.read_parquet(run(config, until="summarize", say=lambda line: None).summaries)
        assert sum(server.asked.values()) == made, "everything was in the store"
    assert made - needed <= 2 * WORKERS, "only what was under way on the lost node is asked for again"
    assert made <= budget.spent.calls <= made + 2 * 2 * WORKERS, "what the lost worker had reserved counts"
    assert budget.spent.calls - budget.spent.calls_unreported <= made
    with counting_server() as server:
        writer |= {"base_url": server.base_url}
        alone = small_config(tmp_path / "alone" / "run", summary__writer=writer, data__users=80)
        here = pl.read_parquet(run(alone, until="summarize", say=lambda line: None).summaries)
    assert there.equals(here.join(prepared.histories.select(USER), on=USER, maintain_order="right"))
    assert again.equals(here)


def test_what_goes_wrong_on_the_cluster_is_told_in_one_line(two_nodes: LocalCluster, tmp_path: Path) -> None:
    writer = {
        "kind": "endpoint", "base_url": "http://127.0.0.1:9/v1", "model": "absent", "max_retries": 0
    }  # fmt: skip
    config = small_config(tmp_path / "run", summary__writer=writer)
    prepared = prepare(config)
    with pytest.raises((RunError, WriterError), match=r"127\.0\.0\.1:9"):
        summarize_on_cluster(on(config, two_nodes, 1), prepared.items, prepared.histories, Budget())


def test_a_cap_holds_for_all_workers_together_and_the_bill_is_written(
    two_nodes: LocalCluster, tmp_path: Path
) -> None:
    said: list[str] = []
    with counting_server() as server:
        writer = {"kind": "endpoint", "base_url": server.base_url, "model": "counted", "concurrency": 2}
        config = small_config(
            tmp_path / "run", summary__writer=writer, data__users=80, summary__limits={"max_calls": 21}
        )
        with pytest.raises(BudgetError, match=r"max_calls 21\): 21 calls made"):
            run(on(config, two_nodes), until="summarize", say=said.append)
        assert sum(server.asked.values()) == 21
        stopped = json.loads((tmp_path / "run" / "bill.json").read_text(encoding="utf-8"))
        assert (stopped["finished"], stopped["actual"]["calls"]) == (False, 21)
        whole = small_config(tmp_path / "run", summary__writer=writer, data__users=80)
        run(on(whole, two_nodes, 1), until="summarize", say=said.append)
        assert set(server.asked.values()) == {1}
        bill = json.loads((tmp_path / "run" / "bill.json").read_text(encoding="utf-8"))
        assert bill["finished"]
        assert bill["actual"]["calls"] == len(server.asked) - 21 == bill["planned"]["calls"]
        assert bill["actual"]["calls_reused"] == bill["planned"]["calls_reused"]
        assert bill["actual"]["prompt_tokens"] == sum(len(prompt) // 4 for prompt in list(server.asked)[21:])
    assert sum(line.startswith("  0 summaries") for line in said) == 0


def test_a_cluster_that_is_not_there_is_told() -> None:
    assert not ray.is_initialized()
    absent = Cluster(kind="ray", address="127.0.0.1:1")
    with pytest.raises(RunError, match="no Ray cluster answers there"):
        map_rows(pl.DataFrame({"a": [1]}), lambda: lambda rows: rows, {}, absent)
