import numpy as np
import polars as pl
import pytest

from trsr.errors import DataError
from trsr.evaluation.catalogue import CEILING, top_items, two_stage_metrics
from trsr.evaluation.metrics import metrics_at

TARGETS = pl.DataFrame(
    {"user_id": ["w", "u", "v"], "split": ["test"] * 3, "target": ["c", "a", "missed"]},
)


def _retrieved(**users: dict[str, float]) -> pl.DataFrame:
    rows = [(user, item, score) for user, items in users.items() for item, score in items.items()]
    return pl.DataFrame(rows, schema=["user_id", "item_id", "score"], orient="row")


RETRIEVED = _retrieved(
    u={"a": 0.5, "b": 0.9, "c": 0.1}, v={"a": 0.5, "b": 0.5, "c": 0.5}, w={"a": 0.5, "b": 0.1, "c": 0.5}
)


def test_by_hand() -> None:
    got = two_stage_metrics(TARGETS, RETRIEVED, metrics_at((1, 2, 10)))
    assert got["user_id"].to_list() == ["u", "v", "w"]
    assert got[CEILING].to_list() == [1, 0, 1]
    assert got["Recall@1 (two-stage)"].to_list() == [0, 0, 0.5]
    assert got["Recall@2 (two-stage)"].to_list() == [1, 0, 1]
    assert got["Recall@10 (two-stage)"].to_list() == [1, 0, 1]
    assert got["MRR@2 (two-stage)"].to_list() == [0.5, 0, 0.75]
    assert got["tied"].to_list() == [0, 0, 1]


def test_no_order_exceeds_the_ceiling() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random((200, 50))
    found = top_items(scores, [[]] * 200, 10, rng)
    targets = rng.integers(0, 50, size=200)
    users = [f"u{number:03}" for number in range(200)]
    frame = pl.DataFrame(
        {"user_id": users, "split": ["test"] * 200, "target": [f"i{target}" for target in targets]}
    )
    retrieved = pl.DataFrame(
        {"user_id": np.repeat(users, 10), "item_id": [f"i{item}" for item in found.ravel()]}
    )
    perfect = retrieved.join(frame, on="user_id").with_columns(
        (pl.col("item_id") == pl.col("target")).cast(pl.Float64).alias("score")
    )
    best = two_stage_metrics(frame, perfect, metrics_at((1, 10)))
    assert best["Recall@1 (two-stage)"].to_list() == best[CEILING].to_list()
    by_chance = retrieved.with_columns(score=pl.lit(0.0))
    chance = two_stage_metrics(frame, by_chance, metrics_at((1, 10)))
    assert chance["Recall@10 (two-stage)"].to_list() == chance[CEILING].to_list()
    assert chance["Recall@1 (two-stage)"].sum() == pytest.approx(chance[CEILING].sum() / 10)
    # The ceiling is the retriever's own recall among all items.
    own = np.take_along_axis(scores, targets[:, None], axis=1)
    assert chance[CEILING].to_list() == ((scores > own).sum(axis=1) < 10).astype(float).tolist()


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(DataError, match="repeat user 'u', item 'a'"):
        two_stage_metrics(TARGETS, pl.concat([RETRIEVED, RETRIEVED.head(1)]), metrics_at((1,)))
    with pytest.raises(DataError, match="NaN or null for user 'u', item 'a'"):
        two_stage_metrics(TARGETS, RETRIEVED.with_columns(score=pl.lit(float("nan"))), metrics_at((1,)))
    with pytest.raises(DataError, match="1 have none, such as 'v'"):
        two_stage_metrics(TARGETS, RETRIEVED.filter(pl.col("user_id") != "v"), metrics_at((1,)))
