import polars as pl

from trsr.baselines.popularity import Popularity

HISTORIES = pl.DataFrame(
    {
        "user_id": ["s", "t", "u"],
        "split": ["train", "train", "test"],
        "history": [["a", "b"], ["a"], ["c", "c"]],
        "target": ["b", "a", "c"],
    }
)


def test_counts_of_training_users_by_hand() -> None:
    pairs = pl.DataFrame({"user_id": ["u"] * 4, "item_id": ["c", "a", "b", "d"]})
    items = pl.DataFrame({"item_id": ["a", "b", "c", "d"], "title": [""] * 4})
    # The test user's three takings of c count nothing.
    assert Popularity().score(items, HISTORIES, pairs).tolist() == [0, 3, 2, 0]
