from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from trsr.baselines.training_data import candidate_places, places, training_data
from trsr.config import Config
from trsr.config.data import DemoData
from trsr.data.candidates import training_counts
from trsr.data.prepare import Prepared, prepare

HELD = pl.col("split") != "train"


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(Config(data=DemoData(users=200, items=100)))


def test_counts_hold_nothing_of_users_who_are_measured(prepared: Prepared) -> None:
    counts = training_data(prepared).counts
    ids = prepared.items["item_id"].to_list()
    assert counts.tolist() == training_counts(prepared.histories, ids, prepared.background).tolist()
    everyone = prepared.histories.with_columns(split=pl.lit("train"))
    assert counts.sum() < training_data(replace(prepared, histories=everyone)).counts.sum()
    gone = prepared.histories.with_columns(
        pl.when(HELD).then(pl.lit([ids[0]])).otherwise("history").alias("history"),
        pl.when(HELD).then(pl.lit(ids[1])).otherwise("target").alias("target"),
    )
    # Whatever measured users did, it is not learnt from. (Their candidates don't matter here.)
    kept = prepared.candidates.with_columns(target=pl.col("candidates").list.first())
    assert np.array_equal(training_data(replace(prepared, histories=gone, candidates=kept)).counts, counts)


def test_validation_users_stand_apart_with_their_targets_among_the_candidates(prepared: Prepared) -> None:
    data = training_data(prepared)
    valid = prepared.candidates.filter(pl.col("split") == "valid")
    assert data.valid_users == tuple(valid["user_id"])
    ids = prepared.items["item_id"]
    chosen = data.valid_candidates[np.arange(valid.height), data.valid_targets]
    assert ids.gather(chosen.tolist()).to_list() == valid["target"].to_list()
    trained = prepared.histories.filter(~HELD).height
    assert len(data.sequences) == trained + prepared.background.height


def test_of_several_positives_all_are_told_and_the_target_is_one_of_them(prepared: Prepared) -> None:
    several = prepared.candidates.with_columns(
        positives=pl.concat_list("target", pl.col("candidates").list.first())
    )
    data = training_data(replace(prepared, candidates=several))
    assert data.valid_positives is not None
    ids = prepared.items["item_id"].to_list()
    valid = several.filter(pl.col("split") == "valid")
    for row, marked, column, wanted in zip(
        data.valid_candidates, data.valid_positives, data.valid_targets, valid["positives"], strict=True
    ):
        assert {ids[place] for place in row[marked]} == set(wanted)
        assert marked[column]
    assert training_data(prepared).valid_positives is None


@pytest.mark.parametrize(("sampler", "given"), [("uniform", False), ("file", True), ("impressions", True)])
def test_who_chose_the_candidates_is_told(prepared: Prepared, sampler: str, given: bool) -> None:
    asked = prepared.candidates.with_columns(sampler=pl.lit(sampler))
    assert training_data(replace(prepared, candidates=asked)).given is given


def test_background_users_are_learnt_from(prepared: Prepared) -> None:
    assert prepared.background.height > 0
    without = replace(prepared, background=prepared.background.clear())
    missing = training_data(prepared).counts - training_data(without).counts
    assert missing.sum() == prepared.background["item_ids"].list.len().sum()


def test_no_user_makes_no_rows() -> None:
    ids = pl.Series(["a", "b"])
    nobody = pl.Series([], dtype=pl.List(pl.String))
    assert places(nobody, ids) == []
    assert candidate_places(nobody, ids).shape == (0, 0)
