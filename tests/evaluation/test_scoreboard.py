import json

import polars as pl
import pytest

from trsr.config.data import CandidateRule
from trsr.config.ranking import Evaluation
from trsr.evaluation.scoreboard import evaluate, to_json

USERS = [f"u{number}" for number in range(10)]
CANDIDATES = pl.DataFrame(
    {
        "user_id": USERS,
        "split": ["valid"] * 4 + ["test"] * 6,
        "target": ["a"] * 10,
        "candidates": [["a", "b"]] * 10,
    }
)


def _scores(*targets: float) -> pl.DataFrame:
    rows = [
        row
        for user, score in zip(USERS, targets, strict=True)
        for row in [(user, "a", score), (user, "b", 0.5)]
    ]
    return pl.DataFrame(rows, schema=["user_id", "item_id", "score"], orient="row")


def test_splits_are_measured_apart_with_users_ties_and_means() -> None:
    scores = _scores(0.9, 0.9, 0.9, 0.1, 0.5, 0.5, 0.5, 0.9, 0.1, 0.1)
    results = evaluate(CANDIDATES, scores, Evaluation(ks=(1, 2)), 0)
    assert list(results) == ["test", "valid"]
    valid, test = results["valid"], results["test"]
    assert (valid.users, valid.tie_rate) == (4, 0)
    assert (test.users, test.tie_rate) == (6, 0.5)
    assert valid.metrics["Recall@1"].mean == pytest.approx(3 / 4)
    assert test.metrics["Recall@1"].mean == pytest.approx((3 * 0.5 + 1) / 6)
    assert test.metrics["Recall@2"].mean == 1
    assert test.metrics["Recall@1"].low < test.metrics["Recall@1"].mean < test.metrics["Recall@1"].high


def test_intervals_do_not_depend_on_the_order_of_users() -> None:
    scores = _scores(0.9, 0.9, 0.9, 0.1, 0.5, 0.5, 0.5, 0.9, 0.1, 0.1)
    first = evaluate(CANDIDATES, scores, Evaluation(), 0)
    assert evaluate(CANDIDATES.reverse(), scores.reverse(), Evaluation(), 0) == first


def test_json_is_of_the_form_of_metrics_json() -> None:
    results = evaluate(CANDIDATES, _scores(*[0.9] * 10), Evaluation(ks=(1,)), 0)
    written = json.loads(json.dumps(to_json({"lm": results}, CandidateRule(negatives=1)), allow_nan=False))
    assert (written["sampler"], written["negatives"]) == ("uniform", 1)
    assert written["systems"]["lm"]["test"] == {
        "users": 6,
        "tie_rate": 0.0,
        "metrics": {
            name: {"mean": 1.0, "low": 1.0, "high": 1.0} for name in ("Recall@1", "MRR@1", "NDCG@1", "AUC")
        },
    }
