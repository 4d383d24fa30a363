from __future__ import annotations

from pathlib import Path

import polars as pl

from small_run import small_config
from trsr.data.candidates import training_counts
from trsr.data.prepare import prepare
from trsr.stages.train import drawn_both_ways


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
