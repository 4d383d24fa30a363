from __future__ import annotations

import polars as pl
import pytest

from small_run import small_config
from trsr.artifacts import RunFolder
from trsr.config import Config
from trsr.data.dataset import Catalogue
from trsr.data.prepare import Prepared, load
from trsr.pipeline import run
from trsr.records import Split
from trsr.stages.summarize import users_of
from trsr.stages.train import ranking_tasks


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, RunFolder]:
    config = small_config(tmp_path_factory.mktemp("tasks") / "run")
    return config, run(config, until="prepare", say=lambda line: None)


@pytest.fixture(scope="module")
def prepared(ready: tuple[Config, RunFolder]) -> Prepared:
    return load(ready[1])


def test_writers_read_the_history_without_the_target(
    ready: tuple[Config, RunFolder], prepared: Prepared
) -> None:
    users, _ = users_of(ready[0], prepared.items, prepared.histories)
    rows = pl.read_parquet(ready[1].histories)
    assert [(user, [item.id for item in items]) for user, items in users] == [
        (user, list(history)) for user, history in rows.select("user_id", "history").iter_rows()
    ]
    # Targets that repeat an item of the history would hide a leak.
    own = dict(rows.select("user_id", "target").iter_rows())
    new = [user for user, items in users if own[user] not in {item.id for item in items}]
    assert len(new) > rows.height / 2


@pytest.mark.parametrize("split", list(Split))
def test_a_ranking_task_shows_the_history_and_asks_for_the_candidates(
    prepared: Prepared, split: Split
) -> None:
    summaries = prepared.histories.select("user_id", pl.format("of {}", "user_id").alias("summary"))
    shuffled = summaries.sample(fraction=1, shuffle=True, seed=1)
    tasks = ranking_tasks(prepared, shuffled, Catalogue(prepared.items), split)
    rows = prepared.histories.filter(pl.col("split") == split.value).sort("user_id")
    offered = dict(prepared.candidates.select("user_id", "candidates").iter_rows())
    assert [task.user_id for task in tasks] == rows["user_id"].to_list()
    for task, row in zip(tasks, rows.iter_rows(named=True), strict=True):
        assert task.summary == f"of {row['user_id']}"
        assert [item.id for item in task.history] == row["history"]
        assert [item.id for item in task.candidates] == offered[row["user_id"]]
        assert task.target is not None
        assert task.candidates[task.target].id == row["target"]


def test_other_candidates_are_asked_for_in_their_own_order(prepared: Prepared) -> None:
    turned = prepared.candidates.with_columns(pl.col("candidates").list.reverse())
    nobody = prepared.histories.select("user_id", summary=pl.lit(""))
    tasks = ranking_tasks(
        prepared,
        nobody,
        Catalogue(prepared.items),
        Split.TEST,
        turned.sample(fraction=1, shuffle=True, seed=2),
    )
    offered = dict(turned.select("user_id", "candidates").iter_rows())
    assert all([item.id for item in task.candidates] == offered[task.user_id] for task in tasks)
