"""Networks that start from vectors of texts, on sessions whose topic only the texts tell."""

from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from topical_shop import N_ITEMS, sessions, topical

from trsr.baselines.base import Baseline, open_baseline
from trsr.baselines.item_encoder import start_table
from trsr.baselines.neural.system import FromVectorsSettings, LLM2SASRec
from trsr.errors import ConfigError, DataError
from trsr.evaluation.metrics import NDCG, expected_metrics

SMALL = "width=32, max_epochs=8, batch_size=32, learning_rate=1e-2, dropout=0.2, layers=1"
LSA = "encoder='lsa(width=32)'"
ASKED = sessions(200, seed=99)
HISTORIES = [taken[:-1] for taken in ASKED]
TARGETS = np.array([taken[-1] for taken in ASKED])


@cache
def trained(name: str) -> Baseline:
    system = open_baseline(name, seed=0)
    system.fit(topical())
    return system


@cache
def gains(name: str) -> NDArray[np.float64]:
    """NDCG@20 of each target in the whole catalogue, ties by expectation, without the history."""
    scores = trained(name).score(["someone"] * len(ASKED), HISTORIES)
    for row, history in zip(scores, HISTORIES, strict=True):
        row[history] = -np.inf
    own = scores[np.arange(len(ASKED)), TARGETS][:, None]
    above, tied = (scores > own).sum(axis=1), (scores == own).sum(axis=1) - 1
    return expected_metrics(above, tied, N_ITEMS - 1, [NDCG(k=20)])["NDCG@20"]


def surely_above(better: str, worse: str) -> bool:
    """Say whether the 95% interval of the paired difference, by a bootstrap over users, is above 0."""
    difference = gains(better) - gains(worse)
    drawn = np.random.default_rng(0).integers(len(difference), size=(1000, len(difference)))
    return float(np.quantile(difference[drawn].mean(axis=1), 0.025)) > 0


def test_likeness_of_texts_finds_the_topic_and_permuted_vectors_do_not() -> None:
    assert surely_above(f"llmseqsim({LSA})", "popularity")
    assert surely_above(f"llmseqsim({LSA})", f"llmseqsim({LSA}, permuted=True)")
    assert gains(f"llmseqsim({LSA}, permuted=True)").mean() < 0.02


@pytest.mark.parametrize("network", ["sasrec", "bert4rec", "gru4rec"])
def test_a_table_that_starts_from_texts_beats_one_that_starts_at_random(network: str) -> None:
    assert surely_above(f"llm2{network}({LSA}, {SMALL})", f"{network}({SMALL})")


def test_a_table_that_starts_from_texts_of_other_items_does_not() -> None:
    permuted = f"llm2sasrec({LSA}, permuted=True, {SMALL})"
    assert not surely_above(permuted, f"sasrec({SMALL})")
    assert surely_above(f"llm2sasrec({LSA}, {SMALL})", permuted)


def test_frozen_vectors_stay_and_their_adapter_learns(tmp_path: Path) -> None:
    name = f"llm2sasrec({LSA}, adapter='linear', offset_scale=0, {SMALL})"
    system = trained(name)
    network = system._network  # type: ignore[attr-defined]
    settings = system.settings
    table, _ = start_table(settings, topical(), seed=0)
    assert np.array_equal(network.items.text[:N_ITEMS].numpy(), table)
    assert surely_above(name, "popularity")
    system.save(tmp_path)
    loaded = LLM2SASRec.load(tmp_path)
    asked = (["u"] * 5, HISTORIES[:5])
    assert np.array_equal(loaded.score(*asked), system.score(*asked))


def test_vectors_come_out_of_a_file_as_wide_as_they_are(tmp_path: Path) -> None:
    data = topical(users=40, valid_users=5)
    path = tmp_path / "vectors.parquet"
    numbers = np.random.default_rng(0).normal(size=(N_ITEMS, 8))
    frame = pl.DataFrame({"item_id": data.items["item_id"], "vector": numbers.tolist()})
    frame.write_parquet(path)
    settings = {"encoder": f"file(path={str(path)!r})", "reducer": "none", "max_epochs": 1}
    with pytest.raises(ConfigError, match="have 8 numbers, and items have 16: set reducer"):
        LLM2SASRec(width=16, **settings).fit(data)
    system = LLM2SASRec(width=8, **settings, length=2.0)
    table, _ = start_table(system.settings, data, seed=0)
    ratio = table / numbers
    assert np.allclose(ratio, ratio[0, 0], rtol=1e-4)
    assert np.sqrt((table**2).sum(axis=1).mean()) == pytest.approx(2.0, rel=1e-4)
    system.fit(data)
    assert system.notes == ()
    frame.head(N_ITEMS - 3).write_parquet(path)
    with pytest.raises(DataError, match=r"3 of 600 items have no vector \(i597, i598, i599\)"):
        system.fit(data)
    lenient = LLM2SASRec(width=8, **settings | {"encoder": f"file(path={str(path)!r}, missing='zero')"})
    lenient.fit(data)
    assert "3 of 600 items have no vector: they are near nothing" in lenient.notes[0]


def test_permuted_vectors_are_the_same_vectors_of_other_items() -> None:
    data = topical(users=2)
    own, _ = start_table(FromVectorsSettings(), data, seed=3)
    other, _ = start_table(FromVectorsSettings(permuted=True), data, seed=3)
    assert not np.array_equal(own, other)
    assert np.array_equal(np.sort(own.sum(axis=1)), np.sort(other.sum(axis=1)))


def test_an_unknown_text_field_is_told() -> None:
    with pytest.raises(ConfigError, match="no text field 'name'; theirs are title"):
        start_table(FromVectorsSettings(fields=("name",)), topical(users=2), seed=0)


def test_the_seed_of_a_system_is_that_of_its_projection() -> None:
    data = topical(users=2)
    made = [start_table(FromVectorsSettings(reducer="random"), data, seed)[0] for seed in (1, 1, 2)]
    assert np.array_equal(made[0], made[1])
    assert not np.allclose(made[0], made[2])
