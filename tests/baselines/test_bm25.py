import math

import polars as pl
import pytest
from baselines_shop import DRILL, EMPTY, ITEMS, SAW, TEA, WITHOUT_SPACES, learnt_from, row, titled

from trsr.baselines.text import Bm25


def opened(items: pl.DataFrame = ITEMS) -> Bm25:
    system = Bm25()
    system.fit(learnt_from(items=items, fields=("title",)))
    return system


def test_scores_by_hand() -> None:
    # Four texts of 2, 2, 2 and 0 words; "cordless" is in two of them, every other word in one.
    shared, own = math.log(1 + 2.5 / 2.5), math.log(1 + 3.5 / 1.5)
    damping = 1 * 2.2 / (1 + 1.2 * (0.25 + 0.75 * 2 / 1.5))
    [scores] = opened().score(["u"], [row(DRILL, SAW)]).tolist()
    # The query holds "cordless" twice and is of two items.
    assert scores == pytest.approx([damping * (2 * shared + own) / 2] * 2 + [0, 0])


def test_longer_texts_count_less_for_the_same_word() -> None:
    items = ITEMS.with_columns(title=pl.Series(["cordless", "cordless saw in a nice big box", "tea", ""]))
    [scores] = opened(items).score(["u"], [row(DRILL)]).tolist()
    assert scores[DRILL] > scores[SAW] > scores[TEA] == 0


def test_nothing_to_compare_ties_everything() -> None:
    assert opened().score(["u", "v"], [row(), row(EMPTY)]).tolist() == [[0] * 4] * 2
    wordless = opened(ITEMS.with_columns(title=pl.lit("the")))
    assert wordless.score(["u"], [row(DRILL)]).tolist() == [[0] * 4]


def test_new_items_are_scored_with_the_weights_of_the_catalogue() -> None:
    longer = opened().with_items(pl.DataFrame({"title": ["cordless saw"], "brand": [""]}), row(*range(4)))
    [[saw, same]] = longer.score(["u"], [row(DRILL)], row(SAW, 4)[None]).tolist()
    assert same == saw == opened().score(["u"], [row(DRILL)])[0, SAW]


@pytest.mark.parametrize("titles", WITHOUT_SPACES)
def test_words_without_spaces_are_found(titles: list[str]) -> None:
    unspaced = [title.replace(" ", "") for title in titles]
    for taken, alike in ((0, {0, 1}), (2, {2, 3, 4})):
        [found] = opened(titled(unspaced)).score(["u"], [row(taken)]).tolist()
        assert {place for place, score_ in enumerate(found) if score_ > 0} == alike
        assert found == pytest.approx(opened(titled(titles)).score(["u"], [row(taken)])[0].tolist())
