from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from trsr.baselines.item_encoder import Lsa, Vectors, open_encoder, read_vectors
from trsr.errors import ConfigError, DataError
from trsr.registry import ENCODERS

TITLES = ["red mug", "red mug large", "steel saw", "steel saw blade", "", "the of"]


def lsa(titles: Sequence[str], width: int = 2) -> Vectors:
    encoder = Lsa(width=width)
    encoder.fit(titles)
    return encoder.encode(titles)


def test_items_with_like_texts_are_near_and_those_without_are_nowhere() -> None:
    vectors = lsa(TITLES)
    assert vectors.dtype == np.float32
    likeness = vectors @ vectors.T
    assert likeness[0, 1] > 0.99
    assert abs(likeness[0, 2]) < 0.01
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1, 1, 0, 0], abs=1e-5)


def test_a_catalogue_with_few_words_fills_the_rest_with_zeros() -> None:
    vectors = lsa(TITLES, 64)
    assert vectors.shape == (6, 64)
    assert not vectors[:, 6:].any()


@pytest.mark.parametrize("titles", [["", ""], ["the of", "and"], ["one", "two"], ["same", "same"]])
def test_texts_without_shared_words_give_no_error(titles: list[str]) -> None:
    assert np.isfinite(lsa(titles, 4)).all()


def test_words_without_spaces_are_found() -> None:
    vectors = lsa(["軽量スピーカー音響", "大型スピーカー音響", "植木鉢園芸", "剪定園芸"])
    assert (vectors @ vectors.T).round(3).tolist() == [[1, 1, 0, 0]] * 2 + [[0, 0, 1, 1]] * 2


def test_a_restored_encoder_reads_new_texts_as_before(tmp_path: Path) -> None:
    encoder = Lsa(width=2)
    encoder.fit(TITLES)
    encoder.save(tmp_path)
    other = Lsa(width=2)
    other.restore(tmp_path)
    assert np.array_equal(other.encode(["blue mug", "saw"]), encoder.encode(["blue mug", "saw"]))
    assert np.allclose(encoder.encode(["blue mug"]), encoder.encode(["red mug"]), atol=1e-5)


def test_vectors_of_a_table_are_read_by_id(tmp_path: Path) -> None:
    frame = pl.DataFrame({"item_id": ["007", "b"], "x": [1.5, 2], "y": [0, -1]})
    frame.write_csv(tmp_path / "v.csv")
    frame.write_csv(tmp_path / "v.tsv", separator="\t")
    lists = pl.DataFrame({"item_id": ["007", "b"], "vector": [[1.5, 0], [2, -1]]})
    lists.write_parquet(tmp_path / "v.parquet")
    for name in ("v.csv", "v.tsv", "v.parquet"):
        ids, vectors = read_vectors(tmp_path / name)
        assert ids == ["007", "b"]
        assert vectors.tolist() == [[1.5, 0], [2, -1]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item_id,x\na,1\na,2\n", "item 'a' stands there more than once"),
        ("item_id,x,y\na,1,\nb,1,2\n", r"row 1 has a number that is not finite \(1 rows\)"),
        ("item_id,x\n,1\n", "row 1 has no item_id"),
        ("item_id,x\na,word\n", "no table of item_id and numbers"),
        ("id,x\na,1\n", "no table of item_id and numbers"),
    ],
)
def test_a_file_that_is_no_table_of_vectors_is_told(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "vectors.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_vectors(path)


def test_files_of_other_kinds_and_none_are_told(tmp_path: Path) -> None:
    ragged = pl.DataFrame({"item_id": ["a", "b"], "vector": [[1.0], [1.0, 2.0]]})
    ragged.write_parquet(tmp_path / "ragged.parquet")
    for name, message in (
        ("v.npy", r"from .parquet, .csv, .tsv, not from '.npy'"),
        ("none.csv", "No such file"),
        ("ragged.parquet", "all rows of one length"),
    ):
        with pytest.raises(DataError, match=message):
            read_vectors(tmp_path / name)


def test_an_encoder_is_named_like_any_part() -> None:
    assert open_encoder("lsa(width=3)", 0).settings.width == 3
    with pytest.raises(ConfigError, match=r"no encoder 'lsi'; take one of lsa, sentence"):
        open_encoder("lsi", 0)
    assert set(ENCODERS) == {"lsa", "sentence", "language_model", "llm2rec", "file"}
