"""The demo shop: what is planted is there, words alone don't tell it, and both parts of it are needed."""

import re
from itertools import chain

import numpy as np
import polars as pl
import pytest

from trsr.baselines.training_data import training_data
from trsr.config import load
from trsr.config.data import DemoData
from trsr.data.dataset import Dataset, checked
from trsr.data.prepare import prepare
from trsr.data.readers.demo import DEPARTMENTS, LOOKS, NEUTRAL, RECENT, generate

LOOK_OF_BRAND = {brand: look.name for look in (*LOOKS, NEUTRAL) for brand in look.brands}
PLACES = {department.name: place for place, department in enumerate(DEPARTMENTS)}


@pytest.fixture(scope="module")
def shop() -> Dataset:
    return checked(generate(DemoData()))


@pytest.fixture(scope="module")
def shuffled() -> Dataset:
    return checked(generate(DemoData(planted=False)))


def _traits(shop: Dataset) -> pl.DataFrame:
    """One row an interaction: its place before the target, brand, look and department, and the target's."""
    items = shop.items.select(
        "item_id",
        "brand",
        pl.col("brand").replace_strict(LOOK_OF_BRAND).alias("look"),
        pl.col("category").replace_strict(PLACES, return_dtype=pl.Int64).alias("department"),
    )
    places = shop.histories.select("user_id", pl.col("item_ids").alias("item_id")).with_columns(
        pl.int_ranges(pl.col("item_id").list.len() - 1, -1, -1).alias("back")
    )
    traits = places.explode("item_id", "back").join(items, on="item_id")
    return traits.join(traits.filter(pl.col("back") == 0), on="user_id", suffix="_t")


def _agreement(shop: Dataset) -> dict[str, float]:
    """How often the target has the look of most old items, and goes with most recent ones in department."""
    traits = _traits(shop)
    old = traits.filter(pl.col("back").is_between(RECENT + 1, RECENT + 5), pl.col("look") != "neutral")
    new = traits.filter(pl.col("back").is_between(1, RECENT))
    looks = old.group_by("user_id").agg(pl.col("look").mode().sort().first(), pl.col("look_t").first())
    needs = new.group_by("user_id").agg(pl.col("department", "department_t").mode().sort().first())
    goes_with = needs["department"] + 1 - 2 * (needs["department"] % 2)
    return {
        "look": (looks["look"] == looks["look_t"]).mean(),
        "department": (goes_with == needs["department_t"]).mean(),
    }


def test_sizes_are_as_configured(shop: Dataset) -> None:
    assert shop.items.height == 800
    assert shop.histories.height == 2000
    assert shop.fields == ("title", "brand", "category", "price", "description")


def test_titles_are_unique_and_short(shop: Dataset) -> None:
    words = shop.items["title"].str.split(" ").list.len()
    assert shop.items["title"].is_unique().all()
    assert words.min() >= 6
    assert words.max() <= 12


def test_no_user_takes_an_item_twice(shop: Dataset, shuffled: Dataset) -> None:
    for dataset in (shop, shuffled):
        lists = dataset.histories["item_ids"]
        assert (lists.list.n_unique() == lists.list.len()).all()


def test_most_histories_lie_in_the_default_window_and_some_on_either_side(shop: Dataset) -> None:
    length = shop.histories["item_ids"].list.len()
    assert 0.85 < length.is_between(11, 26).mean() < 0.95
    assert (length < 11).any()
    assert (length > 26).any()


def test_same_seed_same_shop_and_other_seed_another() -> None:
    small = DemoData(users=20, items=80)
    first, second = generate(small), generate(small)
    assert first.items.equals(second.items)
    assert first.histories.equals(second.histories)
    assert not first.histories.equals(generate(small.model_copy(update={"seed": 1})).histories)


def test_old_items_show_the_taste_and_recent_ones_the_need(shop: Dataset) -> None:
    agreement = _agreement(shop)
    # One target in ten is any item, so that .9 is the most that can be known.
    assert 0.8 < agreement["look"] < 0.95
    assert 0.85 < agreement["department"] < 0.95


def test_recent_items_are_nearly_neutral_in_taste_and_old_ones_say_little_of_the_need(shop: Dataset) -> None:
    traits = _traits(shop)
    recent = traits.filter(pl.col("back").is_between(1, RECENT))
    old = traits.filter(pl.col("back") > RECENT)
    assert (recent["look"] == recent["look_t"]).mean() < 1.5 / len(LOOKS)
    assert (old["department"] == old["department_t"]).mean() < 1 / len(DEPARTMENTS)


def test_for_half_of_the_users_no_old_item_has_the_words_of_the_target(shop: Dataset) -> None:
    traits = _traits(shop).filter(pl.col("look_t") != "neutral")
    same_words = (pl.col("brand") == pl.col("brand_t")) & (pl.col("back") > 0)
    found = traits.group_by("user_id").agg(same_words.any().alias("has"))
    assert 0.4 < found["has"].mean() < 0.6
    recent = traits.filter(pl.col("back").is_between(1, RECENT))
    assert (recent["department"] == recent["department_t"]).mean() < 0.1


def test_other_users_histories_tell_which_brands_mean_the_same(shop: Dataset) -> None:
    old = (
        _traits(shop)
        .filter(pl.col("back") > RECENT, pl.col("look") != "neutral")
        .unique(["user_id", "brand"])
    )
    pairs = old.join(old, on="user_id", suffix="_2").filter(pl.col("brand") < pl.col("brand_2"))
    counts = pairs.group_by("brand", "brand_2", same=pl.col("look") == pl.col("look_2")).len()
    same, other = (counts.filter(pl.col("same") == is_same)["len"] for is_same in (True, False))
    assert same.len() == 3 * len(LOOKS)
    assert same.min() > 2 * other.max()


def test_a_taste_turns_for_some_and_the_newer_one_decides(shop: Dataset) -> None:
    traits = _traits(shop).filter(pl.col("look_t") != "neutral")
    length = pl.col("back").max().over("user_id") + 1
    early, late = (
        traits.filter(length >= 20).filter(pl.col("back").is_between(*ends)) for ends in ((15, 19), (6, 10))
    )
    shares = [(part["look"] == part["look_t"]).mean() for part in (early, late)]
    assert 0.5 < shares[0] < shares[1] - 0.1


def test_only_targets_of_the_last_users_are_new_arrivals() -> None:
    config = load(overrides={"preset": "demo"})
    prepared = prepare(config)
    cold = {
        item
        for item, count in zip(prepared.items["item_id"], training_data(prepared).counts, strict=True)
        if not count
    }
    assert 0.05 < len(cold) / prepared.items.height < 0.15
    assert not cold & set(chain.from_iterable(prepared.histories["history"]))
    test = prepared.histories.filter(pl.col("split") == "test")
    assert 0.15 < test["target"].is_in(list(cold)).mean() < 0.4


def test_nothing_is_to_be_found_when_not_planted(shuffled: Dataset) -> None:
    agreement = _agreement(shuffled)
    assert agreement["look"] < 1.5 / len(LOOKS)
    assert agreement["department"] < 1.5 / len(DEPARTMENTS)


def test_unplanted_histories_hold_the_same_items_equally_often(shop: Dataset, shuffled: Dataset) -> None:
    counts = [d.histories["item_ids"].explode().value_counts().sort("item_ids") for d in (shop, shuffled)]
    assert counts[0].equals(counts[1])
    assert shop.items.equals(shuffled.items)


def test_items_differ_in_popularity_but_moderately(shop: Dataset) -> None:
    counts = shop.histories["item_ids"].explode().value_counts()["count"].to_numpy()
    often = counts[counts > np.quantile(counts, 0.2)]
    assert 3 < np.quantile(often, 0.95) / np.quantile(often, 0.05) < 30


def test_a_look_shows_in_every_text_of_its_items(shop: Dataset) -> None:
    words = {
        (look.name, sort): _words(*look.words[sort], look.brands[sort]) for look in LOOKS for sort in range(3)
    }
    columns = shop.items.select("title", "description", "brand", "category")
    for title, description, brand, category in columns.iter_rows():
        own = words.get((LOOK_OF_BRAND[brand], PLACES[category] // 2))
        if own is not None:
            assert _words(title) & own
            assert _words(description) & own


def test_no_two_looks_or_sorts_of_goods_and_no_two_departments_share_a_word() -> None:
    told = [_words(*look.words[sort], look.brands[sort]) for look in LOOKS for sort in range(3)]
    told.append(_words(*NEUTRAL.brands, *NEUTRAL.words[0]))
    told += [_words(d.name, *d.nouns, *d.features, *d.variants) for d in DEPARTMENTS]
    assert sum(map(len, told)) == len(set().union(*told))


@pytest.mark.parametrize("planted", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_the_smallest_shop_is_a_valid_data_set(seed: int, planted: bool) -> None:
    small = checked(generate(DemoData(users=10, items=60, seed=seed, planted=planted)))
    assert small.items["item_id"].n_unique() == 60


def _words(*texts: str) -> set[str]:
    return set(re.findall(r"[a-z]{3,}", " ".join(texts).lower()))
