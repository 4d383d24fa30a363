from pathlib import Path

import numpy as np
import polars as pl
import pytest

from trsr.baselines.training_data import TrainingData, training_data
from trsr.config import Config
from trsr.config.data import DemoData
from trsr.data.prepare import prepare
from trsr.errors import ArtifactError
from trsr.fusion.companions import Companions

NAMES = ("ncf", "itemknn", "tfidf", "popularity")
CANDIDATES = np.array([[1, 2, 3]], dtype=np.int32)
HISTORY = np.array([4, 5], dtype=np.int32)
P_YES = np.array([[0.1, 0.2, 0.3]])


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return training_data(prepare(Config(data=DemoData(users=120, items=100))))


@pytest.fixture(scope="module")
def companions(data: TrainingData) -> Companions:
    return Companions.fit(NAMES, data, seed=0)


def test_every_system_speaks_of_every_candidate(companions: Companions, data: TrainingData) -> None:
    evidence = companions.evidence(["u"], [HISTORY], CANDIDATES, P_YES, False)
    assert tuple(evidence.scores) == ("language_model", *NAMES)
    assert {table.shape for table in evidence.scores.values()} == {(1, 3)}
    assert evidence.counts.tolist() == [data.counts[[1, 2, 3]].tolist()]


def test_loaded_ones_say_the_same(companions: Companions, data: TrainingData, tmp_path: Path) -> None:
    companions.save(tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]
    loaded = Companions.load(tmp_path, NAMES, seed=0).evidence(["u"], [HISTORY], CANDIDATES, P_YES, False)
    evidence = companions.evidence(["u"], [HISTORY], CANDIDATES, P_YES, False)
    for name, table in evidence.scores.items():
        assert loaded.scores[name] == pytest.approx(table, abs=1e-6), name


def test_a_system_that_was_not_saved_or_is_damaged_is_told(companions: Companions, tmp_path: Path) -> None:
    for name in NAMES:
        folder = tmp_path / name
        with pytest.raises(ArtifactError, match=name):
            Companions.load(folder, [name], seed=0)
        companions.save(folder)
        for path in (folder / name).iterdir():
            path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(ArtifactError, match=name):
            Companions.load(folder, [name], seed=0)


def test_new_items_are_cold_and_their_texts_are_read(companions: Companions, data: TrainingData) -> None:
    size = data.items.height
    texts = data.items.drop("item_id")
    new = pl.concat([texts[4:5], texts[9:10]])
    candidates = np.array([[4, size, size + 1]], dtype=np.int32)
    history = np.array([4, size + 1], dtype=np.int32)
    evidence = companions.evidence(["u"], [history], candidates, P_YES, False, new)
    assert evidence.counts[0, 1:].tolist() == [0, 0]
    # The copy of an item is as like the history as the item itself.
    assert evidence.scores["tfidf"][0, 1] == pytest.approx(evidence.scores["tfidf"][0, 0])
    # Behaviour knows the old item of the history alone.
    alone = companions.evidence(["u"], [history[:1]], candidates[:, :1], P_YES[:, :1], False)
    assert evidence.scores["itemknn"][0, 0] == pytest.approx(alone.scores["itemknn"][0, 0])
