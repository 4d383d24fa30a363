import polars as pl
import pytest

from trsr.data.dataset import Dataset, checked
from trsr.errors import DataError

ITEMS_OK = pl.DataFrame({"item_id": ["a", "b"], "title": ["A", ""]})
HISTORIES_OK = pl.DataFrame({"user_id": ["u", "v"], "item_ids": [["a", "b"], ["b"]], "times": [[1, 1], None]})


def test_a_valid_data_set_passes_and_knows_its_fields():
    assert checked(Dataset(ITEMS_OK, HISTORIES_OK)).fields == ("title",)


@pytest.mark.parametrize(
    ("items", "rule"),
    [
        (pl.DataFrame({"title": ["A"], "item_id": ["a"]}), "first column"),
        (pl.DataFrame({"item_id": ["a", "b"], "title": [1, 2]}), "must be String"),
        (pl.DataFrame({"item_id": ["a", "b"]}), "at least one text field"),
        (pl.DataFrame({"item_id": ["a", "b"], "title": ["A", None]}), "no nulls"),
        (pl.DataFrame({"item_id": ["a", "b", "b"], "title": ["", "", ""]}), "must be unique"),
        (pl.DataFrame({"item_id": ["a", "b", ""], "title": ["", "", ""]}), "must not be empty"),
        (pl.DataFrame({"item_id": ["a"], "title": ["A"]}), "items of the item table, got 'b'"),
    ],
)
def test_broken_items_are_named(items, rule):
    with pytest.raises(DataError, match=rule):
        checked(Dataset(items, HISTORIES_OK))


@pytest.mark.parametrize(
    ("users", "lists", "times", "rule"),
    [
        (["u", "u"], [["a"], ["b"]], [None, None], "not unique in 2 rows"),
        (["u", ""], [["a"], ["b"]], [None, None], "user_id is empty in 1"),
        (["u", "v"], [["a"], []], [None, None], "item_ids is empty in 1"),
        (["u", "v"], [["a"], None], [None, None], "item_ids is empty in 1"),
        (["u", "v"], [["a"], [None]], [None, None], "holds nulls in 1"),
        (["u", "v"], [["a", "b"], ["a"]], [[2, 1], None], "does not rise in 1"),
        (["u", "v"], [["a", "b"], ["a"]], [[2], None], "differs in length in 1"),
    ],
)
def test_broken_histories_are_named(users, lists, times, rule):
    schema = {"user_id": pl.String, "item_ids": pl.List(pl.String), "times": pl.List(pl.Int64)}
    histories = pl.DataFrame({"user_id": users, "item_ids": lists, "times": times}, schema=schema)
    with pytest.raises(DataError, match=rule):
        checked(Dataset(ITEMS_OK, histories))


def test_wrong_types_of_histories_are_named():
    with pytest.raises(DataError, match="must have the columns"):
        checked(Dataset(ITEMS_OK, HISTORIES_OK.drop("times")))
