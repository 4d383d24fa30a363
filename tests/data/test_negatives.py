"""Candidates; each flaw that is known from published code has a test that would catch it."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trsr.config.data import CandidateRule
from trsr.data.candidates import draw_candidates
from trsr.errors import DataError

SCHEMA = {
    "user_id": pl.String,
    "split": pl.String,
    "history": pl.List(pl.String),
    "target": pl.String,
}
SAMPLERS = ("uniform", "popularity")


def _items(count: int) -> pl.DataFrame:
    return pl.DataFrame({"item_id": [f"i{number:03d}" for number in range(count)]})


def _histories(n_users: int, n_items: int, length: int, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    taken = [rng.permutation(n_items)[: length + 1] for _ in range(n_users)]
    names = [[f"i{number:03d}" for number in row] for row in taken]
    splits = [("train", "valid", "test")[number % 3] for number in range(n_users)]
    rows = [(f"u{number}", splits[number], row[:-1], row[-1]) for number, row in enumerate(names)]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


@pytest.mark.parametrize("sampler", SAMPLERS)
@given(
    n_items=st.integers(12, 60),
    length=st.integers(1, 6),
    negatives=st.integers(1, 5),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_negatives_are_distinct_and_never_the_target_nor_in_the_history(
    sampler: str, n_items: int, length: int, negatives: int, seed: int
) -> None:
    histories = _histories(12, n_items, length, seed)
    rule = CandidateRule(negatives=negatives, sampler=sampler)
    drawn = draw_candidates(histories, _items(n_items), rule, seed)
    for row, candidates in zip(histories.iter_rows(named=True), drawn["candidates"], strict=True):
        assert len(candidates) == negatives + 1
        assert len(set(candidates)) == negatives + 1
        assert candidates.to_list().count(row["target"]) == 1
        assert not set(candidates) & set(row["history"])


def test_the_target_stands_in_every_place_equally_often() -> None:
    drawn = draw_candidates(_histories(4200, 100, 5), _items(100), CandidateRule(), 0)
    places = [row.index(target) for row, target in drawn.select("candidates", "target").iter_rows()]
    counts = np.bincount(places, minlength=21)
    # 200 expected in each of 21 places; the standard deviation is 13.8.
    assert counts.min() > 140
    assert counts.max() < 260


def test_uniform_negatives_are_uniform_over_what_is_left() -> None:
    histories = _histories(1, 40, 4).drop("user_id")
    many = pl.concat([histories] * 4000).with_columns(
        pl.Series("user_id", [f"u{number}" for number in range(4000)])
    )
    drawn = draw_candidates(many.select(*SCHEMA), _items(40), CandidateRule(negatives=7), 0)
    target = many["target"][0]
    counts = drawn["candidates"].explode().value_counts().filter(pl.col("candidates") != target)["count"]
    # 35 items are left; each is drawn with chance 7 / 35, 800 times of 4,000 with deviation 25.
    assert len(counts) == 35
    assert counts.min() > 690
    assert counts.max() < 910


def test_popular_negatives_are_drawn_in_proportion_to_training_count_plus_one() -> None:
    train = [(f"t{number}", "train", ["i000"], "i001") for number in range(9)]
    test = [(f"u{number}", "test", ["i003"], "i004") for number in range(6000)]
    histories = pl.DataFrame(train + test, schema=SCHEMA, orient="row")
    rule = CandidateRule(negatives=1, sampler="popularity")
    drawn = draw_candidates(histories, _items(5), rule, 0).filter(pl.col("split") == "test")
    negatives = drawn["candidates"].explode().value_counts().filter(pl.col("candidates") != "i004")
    shares = {item: count / 6000 for item, count in negatives.iter_rows()}
    # Weights 9 + 1, 9 + 1 and 0 + 1; the history's and the target's items can't be drawn.
    assert shares == {
        "i000": pytest.approx(10 / 21, abs=0.03),
        "i001": pytest.approx(10 / 21, abs=0.03),
        "i002": pytest.approx(1 / 21, abs=0.015),
    }


def test_drawing_without_replacement_stays_in_proportion_when_few_draws_do_not_suffice() -> None:
    train = [(f"s{number}", "train", ["i000"], "i000") for number in range(1000)]
    train += [(f"t{number}", "train", ["i001"], "i001") for number in range(4)]
    test = [(f"u{number}", "test", ["i003"], "i004") for number in range(3000)]
    histories = pl.DataFrame(train + test, schema=SCHEMA, orient="row")
    rule = CandidateRule(negatives=2, sampler="popularity")
    drawn = draw_candidates(histories, _items(5), rule, 0).filter(pl.col("split") == "test")
    counts = dict(drawn["candidates"].explode().value_counts().iter_rows())
    # Item 0 weighs 2,001 and is nearly always drawn; then come item 1 and item 2, of 9 and 1.
    assert counts["i000"] > 2980
    assert counts["i001"] == pytest.approx(2700, abs=70)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_popularity_leak_targets_of_other_users_change_no_draw(sampler: str) -> None:
    histories = _histories(90, 80, 6)
    held = pl.col("split") == "test"
    moved = histories.with_columns(
        pl.when(held & (pl.col("user_id") != "u2")).then(pl.lit("i000")).otherwise("target").alias("target")
    ).filter(~pl.col("history").list.contains("i000") | ~held | (pl.col("user_id") == "u2"))
    rule = CandidateRule(sampler=sampler)
    before = draw_candidates(histories, _items(80), rule, 0).filter(pl.col("user_id") == "u2")
    after = draw_candidates(moved, _items(80), rule, 0).filter(pl.col("user_id") == "u2")
    assert before["candidates"].to_list() == after["candidates"].to_list()


def test_a_users_draw_depends_on_no_other_row_nor_on_any_order() -> None:
    histories = _histories(60, 80, 6)
    everyone = draw_candidates(histories, _items(80), CandidateRule(), 0)
    some = histories.sample(20, shuffle=True, seed=1)
    alone = draw_candidates(some, _items(80).sample(fraction=1.0, shuffle=True, seed=2), CandidateRule(), 0)
    joined = alone.join(everyone, on="user_id")
    assert joined.height == 20
    assert joined["candidates"].to_list() == joined["candidates_right"].to_list()


def test_seed_and_sampler_are_frozen_with_the_candidates() -> None:
    rule = CandidateRule(sampler="popularity")
    drawn = draw_candidates(_histories(6, 80, 3), _items(80), rule, 11)
    assert drawn.select("seed", "sampler").unique().row(0) == (11, "popularity")
    assert drawn.columns == ["user_id", "split", "target", "candidates", "seed", "sampler"]
    assert drawn["candidates"].dtype == pl.List(pl.String)


def test_another_seed_draws_others() -> None:
    histories = _histories(20, 80, 3)
    first, second = (draw_candidates(histories, _items(80), CandidateRule(), seed) for seed in (0, 1))
    assert first["candidates"].to_list() != second["candidates"].to_list()


def test_the_whole_rest_of_the_catalogue_can_be_drawn() -> None:
    drawn = draw_candidates(_histories(30, 10, 4), _items(10), CandidateRule(negatives=5), 0)
    assert drawn["candidates"].list.n_unique().to_list() == [6] * 30


def test_a_repeated_item_of_the_history_counts_once_against_the_catalogue() -> None:
    histories = pl.DataFrame([("u", "train", ["i000"] * 8, "i001")], schema=SCHEMA, orient="row")
    drawn = draw_candidates(histories, _items(4), CandidateRule(negatives=2), 0)
    assert sorted(drawn["candidates"][0]) == ["i001", "i002", "i003"]


def test_too_small_a_catalogue_is_refused_with_the_user_and_the_next_step() -> None:
    with pytest.raises(
        DataError, match=r"catalogue of 10 items leaves only 5 that user 'u0'.*lower candidates"
    ):
        draw_candidates(_histories(1, 10, 4), _items(10), CandidateRule(negatives=6), 0)


def test_an_item_that_the_catalogue_lacks_is_refused() -> None:
    with pytest.raises(DataError, match="items that the item table lacks, such as 'i0"):
        draw_candidates(_histories(5, 60, 4), _items(3), CandidateRule(), 0)
