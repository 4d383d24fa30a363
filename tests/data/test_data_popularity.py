import polars as pl

from trsr.data.candidates import training_counts

HISTORIES = pl.DataFrame(
    {
        "split": ["train", "train", "valid", "test"],
        "history": [["a", "b", "a"], ["b"], ["a", "c"], ["b", "d"]],
        "target": ["c", "a", "b", "d"],
    }
)


def test_histories_and_targets_of_training_users_count_and_nothing_else() -> None:
    assert training_counts(HISTORIES, ["a", "b", "c", "d"]).tolist() == [3, 2, 1, 0]


def test_counts_follow_the_order_asked_for_with_repeats_and_unknown_ids() -> None:
    assert training_counts(HISTORIES, ["d", "a", "never", "a"]).tolist() == [0, 3, 0, 3]


def test_popularity_leak_targets_to_be_predicted_change_no_count() -> None:
    moved = HISTORIES.with_columns(
        pl.when(pl.col("split") == "train").then("target").otherwise(pl.lit("a")).alias("target")
    )
    ids = ["a", "b", "c", "d"]
    assert training_counts(moved, ids).tolist() == training_counts(HISTORIES, ids).tolist()
