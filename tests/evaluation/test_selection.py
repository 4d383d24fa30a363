"""Choices go by validation: nothing that is done to test users can change one."""

import numpy as np
import polars as pl
import pytest

from trsr.config import Config
from trsr.config.data import DemoData, HistoryWindow
from trsr.config.ranking import Evaluation
from trsr.data.prepare import Prepared, prepare
from trsr.errors import DataError
from trsr.evaluation.scoreboard import Result, choose, evaluate
from trsr.evaluation.statistics import Estimate

EVALUATION = Evaluation(ks=(3, 10), bootstrap=100)


def _result(mean: float) -> Result:
    return Result(10, 0.0, {"NDCG@10": Estimate(mean, mean, mean)})


@pytest.fixture(scope="module")
def shop() -> Prepared:
    return prepare(
        Config(data=DemoData(users=200, items=100), history=HistoryWindow(min=5, max=26, background=False))
    )


def _systems(candidates: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Systems that know more and more of the targets, each wrong in its own way."""
    rng = np.random.default_rng(0)
    pairs = (
        candidates.sort("user_id")
        .select("user_id", "target", pl.col("candidates").list.sort().alias("item_id"))
        .explode("item_id")
    )
    hit = (pairs["item_id"] == pairs["target"]).to_numpy()
    noise = rng.random((8, len(hit)))
    return {
        f"system {number}": pairs.select("user_id", "item_id").with_columns(
            pl.Series("score", noise[number] + 0.05 * number * hit)
        )
        for number in range(8)
    }


def test_the_best_on_validation_is_chosen_and_the_first_of_equals() -> None:
    systems = {
        "a": {"valid": _result(0.2), "test": _result(0.9)},
        "b": {"valid": _result(0.4), "test": _result(0.1)},
        "c": {"valid": _result(0.4), "test": _result(0.8)},
    }
    assert choose(systems, "NDCG@10") == "b"


def test_permuting_test_targets_changes_no_choice(shop: Prepared) -> None:
    measured = shop.candidates.filter(pl.col("split") != "train")
    scores = _systems(measured)
    before = {name: evaluate(measured, frame, EVALUATION, 0) for name, frame in scores.items()}
    is_test = pl.col("split") == "test"
    rng = np.random.default_rng(1)
    changed_test_figures = 0
    for _ in range(5):
        column = int(rng.integers(0, 21))
        moved = measured.with_columns(
            pl.when(is_test)
            .then(pl.col("candidates").list.get(column))
            .otherwise(pl.col("target"))
            .alias("target")
        )
        after = {name: evaluate(moved, frame, EVALUATION, 0) for name, frame in scores.items()}
        for metric in ("Recall@3", "NDCG@10", "AUC"):
            assert choose(after, metric) == choose(before, metric)
        best = max(after, key=lambda name: after[name]["test"].metrics["NDCG@10"].mean)
        changed_test_figures += after[best]["test"] != before[best]["test"]
    assert changed_test_figures == 5


def test_permuting_validation_targets_does_change_the_choice(shop: Prepared) -> None:
    measured = shop.candidates.filter(pl.col("split") != "train")
    scores = _systems(measured)
    chosen = set()
    for column in range(21):
        moved = measured.with_columns(pl.col("candidates").list.get(column).alias("target"))
        results = {name: evaluate(moved, frame, EVALUATION, 0) for name, frame in scores.items()}
        chosen.add(choose(results, "NDCG@10"))
    assert len(chosen) > 1


def test_without_validation_there_is_no_choice() -> None:
    with pytest.raises(DataError, match="'a' was not measured on the validation split"):
        choose({"a": {"test": _result(0.9)}}, "NDCG@10")
    with pytest.raises(DataError, match="no Recall@3 on the validation split, but NDCG@10"):
        choose({"a": {"valid": _result(0.9)}}, "Recall@3")
    with pytest.raises(DataError, match="no system"):
        choose({}, "NDCG@10")
