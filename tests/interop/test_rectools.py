from pathlib import Path

import polars as pl
import pytest

from trsr.artifacts import RunFolder
from trsr.interop.candidates import Frozen, system_scores
from trsr.interop.export import write_rectools


@pytest.fixture
def tables(folder: RunFolder, frozen: Frozen, out: Path) -> dict[str, pl.DataFrame]:
    return {path.stem: pl.read_parquet(path) for path in write_rectools(frozen, system_scores(folder), out)}


def _lists(interactions: pl.DataFrame) -> dict[str, list[str]]:
    ordered = interactions.sort("user_id", "datetime").group_by("user_id", maintain_order=True).agg("item_id")
    return dict(ordered.iter_rows())


def test_interactions_have_the_columns_of_rectools(tables: dict[str, pl.DataFrame]) -> None:
    for name in ("interactions", "context", "targets_valid", "targets_test"):
        assert dict(tables[name].schema) == {
            "user_id": pl.String,
            "item_id": pl.String,
            "weight": pl.Float64,
            "datetime": pl.Datetime("us"),
        }


def test_training_holds_nothing_of_measured_users(tables: dict[str, pl.DataFrame], frozen: Frozen) -> None:
    training = frozen.prepared.histories.filter(pl.col("split") == "train")
    want = dict(training.select("user_id", pl.concat_list("history", "target")).iter_rows())
    want |= dict(frozen.prepared.background.select("user_id", "item_ids").iter_rows())
    assert _lists(tables["interactions"]) == want


def test_context_and_targets_make_up_the_measured_histories(
    tables: dict[str, pl.DataFrame], frozen: Frozen
) -> None:
    measured = frozen.prepared.histories.filter(pl.col("split") != "train")
    targets = pl.concat([tables["targets_valid"], tables["targets_test"]])
    assert targets.height == measured.height
    want = dict(measured.select("user_id", pl.concat_list("history", "target")).iter_rows())
    assert _lists(pl.concat([tables["context"], targets])) == want
    assert _lists(tables["context"]) == dict(measured.select("user_id", "history").iter_rows())


def test_recommendations_have_rank_and_score(
    tables: dict[str, pl.DataFrame], folder: RunFolder, frozen: Frozen
) -> None:
    for system in ("random", "popularity"):
        for sampler in frozen.candidates:
            reco = tables[f"reco_{system}_{sampler}"]
            assert reco.columns == ["user_id", "item_id", "score", "rank"]
            assert reco.sort("user_id", "rank").equals(reco)
            assert reco.select((pl.col("score").diff() <= 0).over("user_id").fill_null(True).all()).item()
            scored = frozen.pairs(sampler).join(system_scores(folder)[system], on=["user_id", "item_id"])
            assert reco.height == scored.height
            assert (
                reco.drop("rank")
                .sort("user_id", "item_id")
                .equals(scored.select("user_id", "item_id", "score").sort("user_id", "item_id"))
            )


def test_candidates_name_their_sampler_and_not_the_target(
    tables: dict[str, pl.DataFrame], frozen: Frozen
) -> None:
    candidates = tables["candidates"]
    assert candidates.columns == ["user_id", "item_id", "split", "sampler"]
    assert candidates["sampler"].unique().sort().to_list() == sorted(frozen.candidates)
