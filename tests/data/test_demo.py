"""The demo shop: what is planted is there, and both parts of it are needed."""

import re

import numpy as np
import polars as pl
import pytest

from trsr.config.data import DemoData
from trsr.data.dataset import Dataset, checked
from trsr.data.readers.demo import CATEGORIES, NEUTRAL, RECENT, STYLES, generate

STYLE_OF_BRAND = {brand: style.name for style in (*STYLES, NEUTRAL) for brand in style.brands}


@pytest.fixture(scope="module")
def shop() -> Dataset:
    return checked(generate(DemoData()))


@pytest.fixture(scope="module")
def shuffled() -> Dataset:
    return checked(generate(DemoData(planted=False)))


def _traits(shop: Dataset) -> pl.DataFrame:
    """One row an interaction: its user, how far before the target it is, its style and category."""
    style = pl.col("brand").replace_strict(STYLE_OF_BRAND).alias("style")
    items = shop.items.select("item_id", style, "category")
    places = shop.histories.select("user_id", pl.col("item_ids").alias("item_id")).with_columns(
        pl.int_ranges(pl.col("item_id").list.len() - 1, -1, -1).alias("back")
    )
    return places.explode("item_id", "back").join(items, on="item_id")


def _agreement(shop: Dataset) -> dict[str, float]:
    """How often the most frequent style of old items, and category of recent ones, are the target's."""
    traits = _traits(shop)
    target = traits.filter(pl.col("back") == 0).select("user_id", style_t="style", category_t="category")
    old = traits.filter(pl.col("back") > RECENT, pl.col("style") != "neutral")
    new = traits.filter(pl.col("back").is_between(1, RECENT))
    mode = (
        target.join(old.group_by("user_id").agg(pl.col("style").mode().sort().first()), on="user_id")
        .join(new.group_by("user_id").agg(pl.col("category").mode().sort().first()), on="user_id")
        .with_columns(style_hit=pl.col("style") == pl.col("style_t"))
        .with_columns(category_hit=pl.col("category") == pl.col("category_t"))
    )
    return {"style": mode["style_hit"].mean(), "category": mode["category_hit"].mean()}


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


def test_old_items_show_the_taste_and_recent_ones_the_intent(shop: Dataset) -> None:
    agreement = _agreement(shop)
    # One target in ten is any item, so that .9 is the most that can be known.
    assert 0.85 < agreement["style"] < 0.95
    assert 0.85 < agreement["category"] < 0.95


def test_recent_items_are_nearly_neutral_in_taste_and_old_ones_in_intent(shop: Dataset) -> None:
    traits = _traits(shop)
    target = traits.filter(pl.col("back") == 0).select("user_id", style_t="style", category_t="category")
    joined = traits.join(target, on="user_id")
    recent = joined.filter(pl.col("back").is_between(1, RECENT))
    old = joined.filter(pl.col("back") > RECENT)
    assert (recent["style"] == recent["style_t"]).mean() < 1.5 / len(STYLES)
    assert (old["category"] == old["category_t"]).mean() < 1.2 / len(CATEGORIES)


def test_nothing_is_to_be_found_when_not_planted(shuffled: Dataset) -> None:
    agreement = _agreement(shuffled)
    assert agreement["style"] < 1.5 / len(STYLES)
    assert agreement["category"] < 1.5 / len(CATEGORIES)


def test_unplanted_histories_hold_the_same_items_equally_often(shop: Dataset, shuffled: Dataset) -> None:
    counts = [d.histories["item_ids"].explode().value_counts().sort("item_ids") for d in (shop, shuffled)]
    assert counts[0].equals(counts[1])
    assert shop.items.equals(shuffled.items)


def test_items_differ_in_popularity_but_moderately(shop: Dataset) -> None:
    counts = shop.histories["item_ids"].explode().value_counts()["count"].to_numpy()
    assert 3 < np.quantile(counts, 0.95) / np.quantile(counts, 0.05) < 30


def test_a_style_shows_in_every_text_of_its_items(shop: Dataset) -> None:
    words = {style.name: _words(*style.adjectives, *style.openings) for style in STYLES}
    for title, brand, description in shop.items.select("title", "brand", "description").iter_rows():
        own = words.get(STYLE_OF_BRAND[brand])
        if own is not None:
            assert _words(title) & own
            assert _words(description) & own


def test_words_of_styles_are_theirs_alone() -> None:
    styles = [_words(*style.brands, *style.adjectives, *style.openings) for style in (*STYLES, NEUTRAL)]
    plain = [_words(*c.nouns, *c.features, *c.variants, *c.uses, c.name) for c in CATEGORIES]
    for place, own in enumerate(styles[:-1]):
        others = set().union(*styles[:place], *styles[place + 1 :], *plain)
        assert not own & others - {"this", "noun", "make", "makes", "keep", "gives", "from", "with"}


@pytest.mark.parametrize("planted", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_the_smallest_shop_is_a_valid_data_set(seed: int, planted: bool) -> None:
    small = checked(generate(DemoData(users=10, items=60, seed=seed, planted=planted)))
    assert small.items["item_id"].n_unique() == 60


def _words(*texts: str) -> set[str]:
    return set(re.findall(r"[a-z]{4,}", " ".join(texts).lower()))
