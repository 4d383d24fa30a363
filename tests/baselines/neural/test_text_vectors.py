import numpy as np
import polars as pl
import pytest

from trsr.baselines.neural.system import text_vectors

ITEMS = pl.DataFrame(
    {
        "item_id": [*"abcdef"],
        "title": ["red mug", "red mug large", "steel saw", "steel saw blade", "", None],
        "brand": ["x1", "x2", "saw", "x4", "x5", "x6"],
    }
)


def test_items_with_like_texts_are_near_and_those_without_are_nowhere() -> None:
    vectors = text_vectors(ITEMS, ("title",), 2, seed=0)
    assert vectors.dtype == np.float32
    likeness = vectors @ vectors.T
    assert likeness[0, 1] > 0.99
    assert abs(likeness[0, 2]) < 0.01
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1, 1, 0, 0], abs=1e-5)


def test_only_the_chosen_fields_count() -> None:
    assert not np.allclose(text_vectors(ITEMS, ("title",), 2, seed=0), text_vectors(ITEMS, (), 2, seed=0))
    assert not text_vectors(ITEMS, ("brand",), 2, seed=0).any()


def test_a_catalogue_with_few_words_fills_the_rest_with_zeros() -> None:
    vectors = text_vectors(ITEMS, ("title",), 64, seed=0)
    assert vectors.shape == (6, 64)
    assert not vectors[:, 6:].any()


@pytest.mark.parametrize("titles", [["", ""], ["the of", "and"], ["one", "two"], ["same", "same"]])
def test_texts_without_shared_words_give_no_error(titles: list[str]) -> None:
    frame = pl.DataFrame({"item_id": ["a", "b"], "title": titles})
    assert np.isfinite(text_vectors(frame, (), 4, seed=0)).all()


def test_words_without_spaces_are_found() -> None:
    titles = ["軽量スピーカー音響", "大型スピーカー音響", "植木鉢園芸", "剪定園芸"]
    frame = pl.DataFrame({"item_id": [*"abcd"], "title": titles})
    vectors = text_vectors(frame, (), 2, seed=0)
    assert (vectors @ vectors.T).round(3).tolist() == [[1, 1, 0, 0]] * 2 + [[0, 0, 1, 1]] * 2
