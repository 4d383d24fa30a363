"""What holds for every baseline, and what each knows."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from trsr.baselines.score import score
from trsr.config import Config
from trsr.config.data import DemoData
from trsr.config.ranking import Evaluation
from trsr.data.prepare import Prepared, prepare
from trsr.evaluation.scoreboard import evaluate
from trsr.evaluation.user_metrics import user_metrics
from trsr.records import Split

NAMES = ("random", "popularity", "tfidf")


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(Config(data=DemoData(users=800, items=200)))


@pytest.mark.parametrize("name", NAMES)
def test_every_candidate_of_the_wanted_splits_is_scored_once(name: str, prepared: Prepared) -> None:
    scores = score(name, prepared, seed=0)
    wanted = prepared.candidates.filter(pl.col("split") != "train")
    assert user_metrics(wanted, scores, (3,)).height == wanted.height
    assert scores.schema == {"user_id": pl.String, "item_id": pl.String, "score": pl.Float64}
    assert set(scores["user_id"]) == set(wanted["user_id"])


@pytest.mark.parametrize("name", NAMES)
def test_targets_to_be_predicted_change_no_score(name: str, prepared: Prepared) -> None:
    held = pl.col("split") != "train"
    shuffled = prepared.histories.with_columns(
        pl.when(held).then(pl.col("target").sample(fraction=1.0, shuffle=True, seed=1)).otherwise("target")
    )
    assert not shuffled.equals(prepared.histories)
    moved = replace(prepared, histories=shuffled)
    assert score(name, moved, seed=0).equals(score(name, prepared, seed=0))


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_candidates_changes_no_score(name: str, prepared: Prepared) -> None:
    turned = prepared.candidates.with_columns(pl.col("candidates").list.reverse()).reverse()
    moved = replace(prepared, candidates=turned)
    pair = ["user_id", "item_id"]
    assert score(name, moved, seed=0).sort(pair).equals(score(name, prepared, seed=0).sort(pair))


def test_random_has_chance_level_and_follows_the_seed(prepared: Prepared) -> None:
    everyone = tuple(Split)
    first = score("random", prepared, seed=0, splits=everyone)
    metrics = user_metrics(prepared.candidates, first, (3,))
    # Chance is 3 / 21 = .143; the standard error over about 770 users is .0126.
    assert metrics["Recall@3"].mean() == pytest.approx(3 / 21, abs=0.04)
    assert not first.equals(score("random", prepared, seed=1, splits=everyone))


def test_on_the_demo_data_the_floor_stands_in_the_expected_order(prepared: Prepared) -> None:
    wanted = prepared.candidates.filter(pl.col("split") != "train")
    ndcg = {
        name: np.mean([r.metrics["NDCG@10"].mean for r in evaluate(wanted, scores, Evaluation(), 0).values()])
        for name in NAMES
        for scores in [score(name, prepared, seed=0)]
    }
    assert ndcg["random"] < ndcg["popularity"] < ndcg["tfidf"]
