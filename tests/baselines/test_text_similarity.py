import math

import polars as pl
import pytest
from baselines_shop import DRILL, EMPTY, ITEMS, SAW, TEA, WITHOUT_SPACES, learnt_from, row, titled

from trsr.baselines.text import TextSimilarity


def score(*taken: int, fields: tuple[str, ...] = (), items: pl.DataFrame = ITEMS) -> list[float]:
    system = TextSimilarity()
    system.fit(learnt_from(items=items, fields=fields))
    [scores] = system.score(["u"], [row(*taken)]).tolist()
    return scores


def test_cosine_of_titles_by_hand() -> None:
    # Smoothed idf over four texts: a word of two texts, and a word of one.
    shared, own = math.log(5 / 3) + 1, math.log(5 / 2) + 1
    alike = shared**2 / (shared**2 + own**2)
    assert score(DRILL, fields=("title",)) == pytest.approx([1, alike, 0, 0])


def test_only_the_chosen_fields_count() -> None:
    assert score(DRILL, fields=("brand",)) == [1, 0, 1, 0]
    assert score(DRILL)[TEA] > 0


def test_a_history_without_words_ties_everything() -> None:
    assert score(EMPTY) == score() == [0, 0, 0, 0]


def test_a_catalogue_without_words_ties_everything() -> None:
    assert score(DRILL, items=ITEMS.with_columns(title=pl.lit("the of"), brand=pl.lit(""))) == [0, 0, 0, 0]


def test_new_items_are_compared_with_the_weights_of_the_catalogue() -> None:
    system = TextSimilarity()
    system.fit(learnt_from())
    longer = system.with_items(
        pl.DataFrame({"title": ["cordless saw", "zeppelin"], "brand": ["Bolt", "Nobody"]}), row(*range(4))
    )
    histories, candidates = [row(DRILL)], row(SAW, 4, 5)[None]
    [[saw, same, unknown]] = longer.score(["u"], histories, candidates).tolist()
    assert same == saw == system.score(["u"], histories)[0, SAW]
    assert unknown == 0
    assert longer.score(["u"], [row(4)], row(SAW)[None])[0, 0] == pytest.approx(1)


@pytest.mark.parametrize("titles", WITHOUT_SPACES)
def test_words_without_spaces_are_found(titles: list[str]) -> None:
    unspaced = [title.replace(" ", "") for title in titles]
    for taken, alike in ((0, {0, 1}), (2, {2, 3, 4})):
        found = score(taken, items=titled(unspaced))
        assert {place for place, score_ in enumerate(found) if score_ > 0} == alike
        assert found == pytest.approx(score(taken, items=titled(titles)))
