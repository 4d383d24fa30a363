import polars as pl
import pytest

from trsr.data.dataset import Catalogue
from trsr.errors import ConfigError, DataError

ITEMS = pl.DataFrame(
    {"item_id": ["a", "b"], "title": ["Hammer", "Saw"], "brand": ["", "Zagg"], "price": ["9", ""]}
)


def test_fields_come_in_the_tables_order_without_empty_texts() -> None:
    assert list(Catalogue(ITEMS).item("a").fields.items()) == [("title", "Hammer"), ("price", "9")]


def test_chosen_fields_come_in_the_chosen_order() -> None:
    assert list(Catalogue(ITEMS, ["brand", "title"]).item("b").fields) == ["brand", "title"]


def test_several_items_keep_the_order_asked_for() -> None:
    assert [item.id for item in Catalogue(ITEMS).items(["b", "a", "b"])] == ["b", "a", "b"]


def test_membership_and_ids() -> None:
    catalogue = Catalogue(ITEMS)
    assert "a" in catalogue
    assert "c" not in catalogue
    assert catalogue.ids == ("a", "b")
    assert len(catalogue) == 2


def test_unknown_item_is_named() -> None:
    with pytest.raises(DataError, match="'zzz' is not in the catalogue of 2 items"):
        Catalogue(ITEMS).item("zzz")


def test_unknown_field_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"among title, brand, price, got 'colour'"):
        Catalogue(ITEMS, ["title", "colour"])


def test_a_null_text_counts_as_empty() -> None:
    items = pl.DataFrame(
        {"item_id": ["a"], "title": ["x"], "brand": [None]}, schema_overrides={"brand": pl.String}
    )
    assert dict(Catalogue(items).item("a").fields) == {"title": "x"}
