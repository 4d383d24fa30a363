from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from trsr.errors import ArtifactError
from trsr.prompts.nearest import ALIKE, Near, Nearness
from trsr.records import Item

TITLES = (
    "Cordless drill 18V with case",
    "Drill bits for steel, set of 19 bits",
    "Blue mug",
    "Red mug with a cordless kettle",
    "Garden hose",
)
ITEMS = [Item(str(number), {"title": title}) for number, title in enumerate(TITLES)]


def test_likeness_is_the_cosine_of_damped_tfidf_vectors() -> None:
    reference = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w\w+\b").fit_transform(TITLES)
    cosines = (reference @ reference.T).toarray()
    nearness = Nearness.of(ITEMS)
    for place, candidate in enumerate(ITEMS):
        for other in range(len(ITEMS)):
            found = nearness.find(candidate, [ITEMS[other]], 1)
            expected = min(ALIKE, int(10 * np.sqrt(cosines[place, other]) + 1e-9))
            assert (found.degree, bool(found.items)) == (expected, cosines[place, other] > 0)
        history = [item for item in ITEMS if item is not candidate]
        ranked = sorted(history, key=lambda item: -cosines[place, int(item.id)])
        alike = [item for item in ranked if cosines[place, int(item.id)] > 0]
        assert list(nearness.find(candidate, history, 9).items) == alike


def test_of_equal_items_the_newest_is_told_and_no_text_twice() -> None:
    first, second = Item("a", {"title": "drill press"}), Item("b", {"title": "press drill"})
    again = Item("c", {"title": "press drill"})
    near = Nearness.of(ITEMS).find(ITEMS[0], [first, second, again], 3)
    assert [item.id for item in near.items] == ["c", "a"]


def test_nothing_in_common_and_no_history_are_nothing() -> None:
    nearness = Nearness.of(ITEMS)
    assert nearness.find(ITEMS[4], ITEMS[:4], 2) == Near() == nearness.find(ITEMS[0], [], 2)
    assert nearness.find(Item("empty", {}), ITEMS, 2) == Near()


def test_words_that_the_catalogue_lacks_are_the_rarest() -> None:
    nearness = Nearness.of([*ITEMS, *ITEMS])
    asked = Item("new", {"title": "drill zirconium"})
    near = nearness.find(asked, [Item("1", {"title": "drill"}), Item("2", {"title": "zirconium"})], 2)
    assert [item.id for item in near.items] == ["2", "1"]


def test_what_is_saved_says_the_same(tmp_path: Path) -> None:
    nearness = Nearness.of(ITEMS)
    nearness.save(tmp_path / "words.json")
    loaded = Nearness.load(tmp_path / "words.json")
    for item in ITEMS:
        assert loaded.find(item, ITEMS, 3) == nearness.find(item, ITEMS, 3)


@pytest.mark.parametrize("broken", [None, "", "[]", '{"texts": 3}', '{"texts": 3, "having": {"a": null}}'])
def test_a_broken_file_is_named(tmp_path: Path, broken: str | None) -> None:
    path = tmp_path / "words.json"
    if broken is not None:
        path.write_text(broken, encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"words\.json.*train again"):
        Nearness.load(path)
