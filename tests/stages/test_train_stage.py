from __future__ import annotations

from pathlib import Path

import polars as pl

from small_run import small_config
from trsr.baselines.base import open_baseline
from trsr.baselines.training_data import places, training_data
from trsr.data.candidates import training_counts
from trsr.data.prepare import prepare
from trsr.stages.train import drawn_both_ways, retrieved


def test_negatives_of_both_samplers_stand_beside_the_target_and_none_was_taken(tmp_path: Path) -> None:
    config = small_config(tmp_path, data__users=300)
    prepared = prepare(config)
    both = drawn_both_ways(config, prepared)
    train = prepared.histories.filter(pl.col("split") == "train")
    assert both["user_id"].to_list() == train["user_id"].to_list()
    joined = both.join(train, on="user_id").join(
        prepared.candidates.select("user_id", pl.col("candidates").alias("frozen")), on="user_id"
    )
    more = []
    for row in joined.iter_rows(named=True):
        assert len(set(row["candidates"])) == len(row["candidates"]) > len(row["frozen"])
        assert row["candidates"][: len(row["frozen"])] == row["frozen"]
        assert not set(row["candidates"]) & (set(row["history"]) - {row["target"]})
        more += row["candidates"][len(row["frozen"]) :]
    frozen = [item for row in joined["frozen"] for item in row]
    mean = [
        training_counts(prepared.histories, items, prepared.background).mean() for items in (more, frozen)
    ]
    assert mean[0] > mean[1]


def test_retrieved_negatives_are_the_likest_items_and_none_was_taken(tmp_path: Path) -> None:
    config = small_config(tmp_path, data__users=100, training__sampler="retrieved")
    prepared = prepare(config)
    found = retrieved(config, prepared)
    train = prepared.histories.filter(pl.col("split") == "train").sort("user_id")
    assert found["user_id"].to_list() == train["user_id"].to_list()
    system = open_baseline("llmseqsim", 0)
    data = training_data(prepared)
    system.fit(data)
    ids = prepared.items["item_id"]
    for (_, offered), row in zip(found.iter_rows(), train.iter_rows(named=True), strict=True):
        assert len(set(offered)) == len(offered) == config.candidates.negatives + 1
        assert offered[0] == row["target"]
        assert not set(offered) & set(row["history"])
        [history] = places(pl.Series([row["history"]]), ids)
        scores = dict(zip(ids, system.score(["u"], [history])[0], strict=True))
        left = sorted((scores[item] for item in set(ids) - {*row["history"], row["target"]}), reverse=True)
        assert [scores[item] for item in offered[1:]] == left[: config.candidates.negatives]
