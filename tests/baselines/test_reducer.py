"""Vectors to fewer numbers: what each reducer keeps, by hand where there is a closed form."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from trsr.baselines.item_encoder import item_classes
from trsr.baselines.reducer import open_reducer
from trsr.baselines.text import LLMSeqSim
from trsr.errors import ConfigError, DataError
from trsr.registry import BASELINES, settings_of


def test_principal_components_keep_what_differs_and_nothing_stays_nothing() -> None:
    draw = np.random.default_rng(0)
    low = draw.normal(size=(30, 2)) @ draw.normal(size=(2, 8)) + 5
    vectors = np.concatenate([low, np.zeros((1, 8)), low[:1]]).astype(np.float32)
    reducer = open_reducer("pca", 4, seed=0)
    reducer.fit(vectors)
    reduced = reducer(vectors)
    distances = [np.linalg.norm(table[:30, None] - table[None, :30], axis=2) for table in (low, reduced)]
    assert np.allclose(*distances, atol=1e-3)
    assert not reduced[30].any()
    assert np.array_equal(reduced[31], reduced[0])
    assert open_reducer("none", 4, seed=0)(vectors) is vectors


def two_classes() -> tuple[np.ndarray, list[str | None]]:
    """Vectors of 3 numbers: the first two are wide and shared, the last is narrow and tells the class."""
    draw = np.random.default_rng(1)
    vectors = draw.normal(size=(60, 3)) * [5, 2, 0.1]
    classes: list[str | None] = ["saw" if number % 2 else "tea" for number in range(60)]
    vectors[:, 2] += [name == "saw" for name in classes]
    vectors[:, 0] += 3 * vectors[:, 2]
    return vectors.astype(np.float32), classes


def test_lda_finds_the_direction_of_fishers_closed_form() -> None:
    vectors, classes = two_classes()
    reducer = open_reducer("lda", 1, seed=0)
    reducer.fit(vectors, classes)
    found = reducer(vectors)[:, 0]
    saw = np.array([name == "saw" for name in classes])
    groups = [vectors[saw].astype(float), vectors[~saw].astype(float)]
    within = sum(np.cov(group.T, bias=True) * len(group) for group in groups)
    by_hand = vectors @ np.linalg.solve(within, groups[0].mean(axis=0) - groups[1].mean(axis=0))
    assert abs(np.corrcoef(found, by_hand)[0, 1]) == pytest.approx(1.0, abs=1e-4)
    assert reducer.notes == []
    # What is widest tells nothing: the first principal component mixes both classes.
    pca = open_reducer("pca", 1, seed=0)
    pca.fit(vectors)
    apart = [abs(np.corrcoef(one, saw)[0, 1]) for one in (found, pca(vectors)[:, 0])]
    assert apart[0] > 0.9 > apart[1]


def test_what_lda_can_not_use_is_counted() -> None:
    vectors, classes = two_classes()
    classes[0], classes[1] = None, "one of its own"
    reducer = open_reducer("lda", 4, seed=0)
    reducer.fit(vectors, classes)
    assert reducer(vectors)[:, 1:].any() == np.False_
    assert reducer(vectors)[:2, 0].all()
    assert reducer.notes == [
        "lda: 2 of 60 items have no class, or one of their own: nothing is learnt from them",
        "lda: 2 classes are told apart by 1 numbers at most; the other 3 are 0",
    ]


@pytest.mark.parametrize("classes", [["a"] * 6, [None] * 6, list("abcdef"), ["a", "a", "a", "b", "b", "b"]])
def test_lda_without_classes_that_can_be_told_apart_is_refused(classes: list[str | None]) -> None:
    vectors = np.repeat(np.eye(2, 3, dtype=np.float32), 3, axis=0)
    with pytest.raises(
        DataError, match=r"lda needs 2 classes of several items at least.*take the reducer pca"
    ):
        open_reducer("lda", 2, seed=0).fit(vectors, classes)


def test_lda_asks_for_the_field_of_its_classes_before_any_work() -> None:
    for system in ("llmseqsim", "llm2sasrec"):
        with pytest.raises(ConfigError, match=r"name their field by classes, such as category.*'lda'"):
            settings_of("baseline", system, {"reducer": "lda"}, BASELINES)
        with pytest.raises(ConfigError, match=r"with lda alone; got reducer 'pca', classes 'category'"):
            settings_of("baseline", system, {"reducer": "pca", "classes": "category"}, BASELINES)
    items = pl.DataFrame({"item_id": ["a"], "title": ["Saw"]})
    with pytest.raises(ConfigError, match="items have no text field 'category'; theirs are title"):
        item_classes(items, "category")


def ring() -> np.ndarray:
    """Points of a ring in 12 directions, where principal components of width 1 fold it flat."""
    angles = np.linspace(0, 1.5 * np.pi, 150)
    plane = np.random.default_rng(0).normal(size=(2, 12))
    return (np.stack([np.cos(angles), np.sin(angles)], axis=1) @ plane).astype(np.float32)


def test_an_autoencoder_keeps_what_is_near_and_follows_its_seed(tmp_path: Path) -> None:
    vectors = np.concatenate([ring(), np.zeros((1, 12), np.float32), ring()[:1]])
    reducer = open_reducer("autoencoder", 2, seed=3)
    reducer.fit(vectors)
    reduced = reducer(vectors)
    assert np.abs(reduced).max() <= 1
    assert not reduced[150].any()
    assert np.array_equal(reduced[151], reduced[0])
    distances = np.linalg.norm(reduced[:150, None] - reduced[None, :150], axis=2) + np.eye(150) * 9
    assert np.abs(distances.argmin(axis=1) - np.arange(150)).max() <= 2
    same, other = (open_reducer("autoencoder", 2, seed=seed) for seed in (3, 4))
    same.fit(vectors)
    other.fit(vectors)
    assert np.array_equal(same(vectors), reduced)
    assert not np.allclose(other(vectors), reduced, atol=1e-2)
    reducer.save(tmp_path)
    restored = open_reducer("autoencoder", 2, seed=3)
    restored.restore(tmp_path)
    assert np.array_equal(restored(vectors), reduced)


@pytest.mark.parametrize("kind", ["pca", "random", "lda", "autoencoder"])
def test_every_reducer_serves_llmseqsim_and_starts_a_table(kind: str) -> None:
    """Items of a category have like texts, so that the likeness of either is that of their category."""
    from topical_shop import A_TOPIC, topical  # noqa: PLC0415  built for the other tests of this folder

    data = topical(users=40, valid_users=10)
    topics = [f"topic {place // A_TOPIC}" for place in range(data.items.height)]
    data.items.insert_column(2, pl.Series("category", topics))
    classes = {"classes": "category"} if kind == "lda" else {}
    system = LLMSeqSim(encoder="lsa(width=64)", fields=["title"], reducer=kind, width=16, **classes)
    system.fit(data)
    scores = system.score(["u"], [np.array([5], np.int32)])[0].reshape(-1, A_TOPIC).mean(axis=1)
    assert scores.argmax() == 0
    assert system.item_vectors().shape == (data.items.height, 16)
