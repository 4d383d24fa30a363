"""Vectors by hand, out of a file; decays and likenesses in closed form."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from baselines_shop import DRILL, EMPTY, ITEMS, SAW, TEA, learnt_from, row
from numpy.typing import NDArray

from trsr.baselines.text import DECAYS, LLMSeqSim
from trsr.errors import ArtifactError, ConfigError
from trsr.registry import BASELINES, identity, spell

VECTORS = np.array([[2.0, 0.0], [1.0, 1.0], [0.0, 3.0], [0.0, 0.0]])


def file_of(vectors: NDArray[np.float64], path: Path) -> str:
    table = pl.DataFrame({"item_id": ITEMS["item_id"], "vector": vectors.tolist()})
    table.write_parquet(path)
    return f"file(path={str(path)!r})"


def fitted(vectors: NDArray[np.float64], folder: Path, **settings: object) -> LLMSeqSim:
    system = LLMSeqSim(encoder=file_of(vectors, folder / "vectors.parquet"), **settings)
    system.fit(learnt_from())
    return system


def test_decays_are_their_closed_forms() -> None:
    ages, n = np.arange(1.0, 13.0), np.full(12, 12.0)
    line = np.maximum(1e-5, (13 - ages) / 12)
    expected = {
        "last": [1.0] + [0.0] * 11,
        "none": np.ones(12),
        "constant_linear": [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 1e-5, 1e-5],
        "scaling_linear": line,
        "scaling_quadratic": line**2,
        "scaling_cubic": line**3,
        "log": 1 / (1 + np.log(ages)),
        "harmonic": [1 / age for age in range(1, 13)],
        "harmonic_squared": [1 / age**2 for age in range(1, 13)],
    }
    assert set(expected) == set(DECAYS)
    for name, weights in expected.items():
        assert np.allclose(DECAYS[name](ages, n), weights), name


@pytest.mark.parametrize("decay", list(DECAYS))
def test_a_history_of_one_item_is_that_item(decay: str, tmp_path: Path) -> None:
    system = fitted(VECTORS, tmp_path, decay=decay, similarity="dot")
    scores = system.score(["u"], [row(SAW)])
    assert scores[0] == pytest.approx(VECTORS @ VECTORS[SAW])


@pytest.mark.parametrize("decay", ["last", "harmonic", "scaling_linear"])
def test_the_three_likenesses_by_hand(decay: str, tmp_path: Path) -> None:
    first, second = {"last": (0, 1), "harmonic": (1 / 3, 2 / 3), "scaling_linear": (1 / 3, 2 / 3)}[decay]
    history = [row(TEA, DRILL), row()]
    dot = fitted(VECTORS, tmp_path, decay=decay, similarity="dot").score(["u", "v"], history)
    mean = first * VECTORS[TEA] + second * VECTORS[DRILL]
    assert dot[0] == pytest.approx(VECTORS @ mean)
    far = fitted(VECTORS, tmp_path, decay=decay, similarity="euclidean").score(["u", "v"], history)
    assert far[0] == pytest.approx(1 / (1 + np.linalg.norm(VECTORS - mean, axis=1)))
    like = fitted(VECTORS, tmp_path, decay=decay, similarity="cosine").score(["u", "v"], history)
    units = VECTORS / np.maximum(np.linalg.norm(VECTORS, axis=1, keepdims=True), 1e-9)
    profile = first * units[TEA] + second * units[DRILL]
    assert like[0] == pytest.approx(units @ profile / np.linalg.norm(profile))
    assert like[0, EMPTY] == 0
    for table in (dot, far, like):
        assert np.ptp(table[1]) == 0, "an empty history ties everything"


def test_permuting_rows_of_the_table_permutes_what_is_recommended(tmp_path: Path) -> None:
    order = np.array([2, 0, 3, 1])
    whole = fitted(VECTORS, tmp_path).score(["u"], [row(DRILL)])
    moved = fitted(VECTORS[order], tmp_path).score(["u"], [row(int(np.flatnonzero(order == DRILL)[0]))])
    assert np.allclose(moved[0], whole[0, order])


def test_the_control_gives_items_the_vectors_of_others(tmp_path: Path) -> None:
    system = fitted(VECTORS, tmp_path, permuted=True, similarity="dot")
    assert sorted(map(tuple, system._vectors)) == sorted(map(tuple, VECTORS))
    assert not np.array_equal(system._vectors, VECTORS)


@pytest.mark.parametrize("reducer", ["none", "pca", "random"])
def test_a_restored_system_scores_the_same_and_knows_new_texts(reducer: str, tmp_path: Path) -> None:
    system = LLMSeqSim(encoder="lsa(width=3)", reducer=reducer, width=2, fields=("title",))
    data = learnt_from(
        items=pl.DataFrame(
            {"item_id": [*"abcdef"], "title": ["red mug", "mug", "red saw", "saw", "", "red mug saw"]}
        )
    )
    system.fit(data)
    system.save(tmp_path)
    other = LLMSeqSim(encoder="lsa(width=3)", reducer=reducer, width=2, fields=("title",))
    other.restore(tmp_path)
    asked = (["u", "v"], [row(0, 3), row(2)])
    assert np.array_equal(other.score(*asked), system.score(*asked))
    new = pl.DataFrame({"title": ["red mug", "mug saw"]})
    longer = other.with_items(new, row(0, 1, 2, 3))
    scores = longer.score(["u"], [row(4)])
    assert scores.shape == (1, 6)
    assert scores[0, 0] == scores[0, 4] == scores[0].max()
    with pytest.raises(ArtifactError, match="not what LLMSeqSim has learnt"):
        LLMSeqSim().restore(tmp_path / "nowhere")


def test_results_depend_on_what_is_in_the_file(tmp_path: Path) -> None:
    name = f"llmseqsim(encoder={file_of(VECTORS, tmp_path / 'v.parquet')!r})"
    before = identity("baseline", name, BASELINES)
    assert identity("baseline", name, BASELINES) == before
    file_of(VECTORS * 2, tmp_path / "v.parquet")
    assert identity("baseline", name, BASELINES) != before


def test_wrong_settings_are_told_before_anything_is_read() -> None:
    with pytest.raises(ConfigError, match="no encoder 'glove'"):
        spell("baseline", "llmseqsim(encoder='glove')", BASELINES)
    with pytest.raises(ConfigError, match=r"the encoder 'sentence': model: Field required"):
        LLMSeqSim(encoder="sentence")
