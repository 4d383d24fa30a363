import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trsr.errors import DataError
from trsr.evaluation.metrics import metrics_at, user_metrics

CANDIDATES = pl.DataFrame(
    {
        "user_id": ["v", "u"],
        "split": ["test", "test"],
        "target": ["b", "a"],
        "candidates": [["c", "b", "a", "d"], ["a", "b", "c", "d"]],
    }
)
# User u: b is above a, and c ties with it. User v: the target stands alone on top.
SCORES = pl.DataFrame(
    [
        *[("u", item, score) for item, score in zip("abcd", [0.5, 0.9, 0.5, 0.1], strict=True)],
        *[("v", item, score) for item, score in zip("abcd", [0.1, 0.9, 0.2, 0.3], strict=True)],
    ],
    schema=["user_id", "item_id", "score"],
    orient="row",
)


def test_by_hand() -> None:
    got = user_metrics(CANDIDATES, SCORES, metrics_at((1, 2)))
    assert got["user_id"].to_list() == ["u", "v"]
    assert got["tied"].to_list() == [1, 0]
    # User u is second or third with equal chance.
    assert got["Recall@1"].to_list() == [0, 1]
    assert got["Recall@2"].to_list() == [0.5, 1]
    assert got["MRR@2"].to_list() == [0.25, 1]
    assert got.columns[:3] == ["user_id", "split", "tied"]


def test_scores_of_other_users_are_ignored() -> None:
    only_u = CANDIDATES.filter(pl.col("user_id") == "u")
    assert user_metrics(only_u, SCORES, metrics_at((1,)))["user_id"].to_list() == ["u"]


@given(st.lists(st.integers(0, 4), min_size=8, max_size=8), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_order_of_candidates_and_rows_never_changes_a_metric(values: list[int], random: object) -> None:
    seed = random.randrange(1000)  # type: ignore[attr-defined]
    scores = SCORES.with_columns(pl.Series("score", values, dtype=pl.Float64))
    order = np.random.default_rng(seed).permutation(4)
    moved = CANDIDATES.with_columns(pl.col("candidates").list.gather(order.tolist())).reverse()
    want = user_metrics(CANDIDATES, scores, metrics_at((1, 2, 3)))
    assert user_metrics(
        moved, scores.sample(fraction=1.0, shuffle=True, seed=seed), metrics_at((1, 2, 3))
    ).equals(want)


def test_a_candidate_without_a_score_is_named() -> None:
    with pytest.raises(DataError, match=r"lack user 'u', item 'd' \(1 such"):
        user_metrics(
            CANDIDATES, SCORES.filter(~((pl.col("user_id") == "u") & (pl.col("item_id") == "d"))), (1,)
        )


def test_a_candidate_scored_twice_is_named() -> None:
    with pytest.raises(DataError, match="repeat user 'u', item 'a'"):
        user_metrics(CANDIDATES, pl.concat([SCORES, SCORES.head(1)]), metrics_at((1,)))


def test_an_item_that_is_no_candidate_is_named() -> None:
    extra = pl.DataFrame({"user_id": ["u"], "item_id": ["z"], "score": [1.0]})
    with pytest.raises(DataError, match="hold also user 'u', item 'z'"):
        user_metrics(CANDIDATES, pl.concat([SCORES, extra]), metrics_at((1,)))


@pytest.mark.parametrize("bad", [float("nan"), None])
def test_a_score_that_is_no_number_is_refused(bad: float | None) -> None:
    scores = SCORES.with_columns(pl.Series("score", [bad, *SCORES["score"][1:]], dtype=pl.Float64))
    with pytest.raises(DataError, match="NaN or null for user 'u', item 'a'"):
        user_metrics(CANDIDATES, scores, metrics_at((1,)))


def test_a_target_that_is_no_candidate_is_refused() -> None:
    moved = CANDIDATES.with_columns(pl.lit("z").alias("target"))
    with pytest.raises(DataError, match="must hold the target, but don't for user 'v', item 'z'"):
        user_metrics(moved, SCORES, metrics_at((1,)))


def test_a_candidate_named_twice_is_refused() -> None:
    twice = CANDIDATES.with_columns(pl.col("candidates").list.concat([pl.lit("a")]))
    with pytest.raises(DataError, match="more than once user 'v', item 'a'"):
        user_metrics(twice, SCORES, metrics_at((1,)))


def test_no_users_give_an_empty_table() -> None:
    empty = user_metrics(CANDIDATES.clear(), SCORES.clear(), metrics_at((3,)))
    assert empty.height == 0
    assert "Recall@3" in empty.columns
