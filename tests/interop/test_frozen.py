import shutil
from pathlib import Path

import polars as pl

from trsr.artifacts import RunFolder, write_parquet
from trsr.interop.candidates import Frozen, imported_path, open_frozen, system_scores


def test_every_sampler_is_there_with_its_measured_users(frozen: Frozen, folder: RunFolder) -> None:
    assert list(frozen.candidates) == ["uniform", "popularity"]
    histories = frozen.prepared.histories
    measured = histories.filter(pl.col("split") != "train")["user_id"].to_list()
    for candidates in frozen.candidates.values():
        assert candidates["user_id"].to_list() == measured
    own = pl.read_parquet(folder.candidates)
    assert own["split"].n_unique() == 3
    assert frozen.candidates["uniform"].equals(
        own.filter(pl.col("split") != "train").select("user_id", "split", "target", "candidates")
    )


def test_pairs_keep_the_frozen_order_and_mark_one_target_a_user(frozen: Frozen) -> None:
    pairs = frozen.pairs("popularity")
    assert pairs.group_by("user_id").agg(pl.col("target").sum())["target"].unique().to_list() == [1]
    first = frozen.candidates["popularity"].row(0, named=True)
    assert pairs.head(21)["item_id"].to_list() == first["candidates"]
    assert pairs.filter("target")["item_id"][0] == first["target"]


def test_a_pair_of_both_samplers_stands_once_in_all_pairs(frozen: Frozen) -> None:
    every = frozen.all_pairs()
    assert every.is_unique().all()
    apart = sum(frozen.pairs(sampler).height for sampler in frozen.candidates)
    # The target of every user is a candidate of both.
    assert every.height <= apart - frozen.candidates["uniform"].height
    wanted = pl.concat([frozen.pairs(sampler).select(every.columns) for sampler in frozen.candidates])
    assert set(every.iter_rows()) == set(wanted.iter_rows())


def test_scores_of_all_origins_are_found(folder: RunFolder, frozen: Frozen, tmp_path: Path) -> None:
    shutil.copytree(folder.path, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    pairs = frozen.pairs("uniform").select("user_id", "split", "item_id")
    drawn = pl.lit("uniform").alias("sampler")
    write_parquet(pairs.with_columns(drawn, score=pl.lit(0.25)), run.scores / "recurrent.parquet")
    # What a fused ranker says of a pair depends on the sampler: the run's own comes first, and is given.
    both = [pairs.with_columns(drawn, score=pl.lit(0.5))]
    both.append(both[0].with_columns(sampler=pl.lit("popularity"), score=pl.lit(0.6)))
    write_parquet(pl.concat(both), run.scores / "fused.parquet")
    write_parquet(pairs.with_columns(score=pl.lit(0.75)), imported_path(run, "outside"))
    found = system_scores(run)
    assert list(found) == ["fused", "popularity", "random", "recurrent", "outside"]
    assert {frame.columns == ["user_id", "item_id", "score"] for frame in found.values()} == {True}
    assert all(frame.select("user_id", "item_id").is_unique().all() for frame in found.values())
    assert [found[name]["score"].unique().to_list() for name in ("recurrent", "fused", "outside")] == [
        [0.25],
        [0.5],
        [0.75],
    ]


def test_a_run_that_has_scored_nothing_has_no_systems(folder: RunFolder, tmp_path: Path) -> None:
    shutil.copytree(folder.path / "dataset", tmp_path / "run" / "dataset")
    run = RunFolder(tmp_path / "run")
    assert system_scores(run) == {}
    assert list(open_frozen(run).candidates) == ["uniform"]
