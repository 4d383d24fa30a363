import math

import polars as pl
import pytest

from trsr.baselines import text_similarity
from trsr.baselines.text_similarity import TextSimilarity

ITEMS = pl.DataFrame(
    {
        "item_id": ["drill", "saw", "tea", "empty"],
        "title": ["cordless drill", "cordless saw", "green tea", ""],
        "brand": ["Zagg", "Bolt", "Zagg", ""],
    }
)
HISTORIES = pl.DataFrame(
    {
        "user_id": ["u", "v"],
        "split": ["test", "test"],
        "history": [["drill"], ["empty"]],
        "target": ["x", "y"],
    }
)


def _score(user: str, fields: tuple[str, ...] = ()) -> dict[str, float]:
    pairs = pl.DataFrame({"user_id": [user] * 4, "item_id": ITEMS["item_id"]})
    got = TextSimilarity(fields).score(ITEMS, HISTORIES, pairs)
    return dict(zip(ITEMS["item_id"], got.tolist(), strict=True))


def test_cosine_of_titles_by_hand() -> None:
    got = _score("u", ("title",))
    # Smoothed idf over four texts: a word of two texts, and a word of one.
    shared, own = math.log(5 / 3) + 1, math.log(5 / 2) + 1
    assert got == {
        "drill": pytest.approx(1),
        "saw": pytest.approx(shared**2 / (shared**2 + own**2)),
        "tea": 0,
        "empty": 0,
    }


def test_only_the_chosen_fields_count() -> None:
    assert _score("u", ("brand",)) == {"drill": 1, "saw": 0, "tea": 1, "empty": 0}
    assert _score("u")["tea"] > 0


def test_a_history_without_words_ties_everything() -> None:
    assert set(_score("v").values()) == {0}


def test_a_catalogue_without_words_ties_everything() -> None:
    items = ITEMS.with_columns(title=pl.lit("the of"), brand=pl.lit(""))
    pairs = pl.DataFrame({"user_id": ["u", "u"], "item_id": ["saw", "tea"]})
    assert TextSimilarity().score(items, HISTORIES, pairs).tolist() == [0, 0]


def test_working_in_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _score("u")
    monkeypatch.setattr(text_similarity, "_PAIRS_A_CHUNK", 3)
    assert _score("u") == whole
