"""One suite for every sequential system, on histories whose order is planted."""

import dataclasses
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from planted_order import N_ITEMS, NEVER_TAKEN, planted, walk

from trsr.baselines.base import baseline_class
from trsr.baselines.item_encoder import VectorSettings
from trsr.baselines.neural import system as sequential
from trsr.baselines.neural.system import DIN, GRU4Rec, SASRec, Sequential
from trsr.baselines.training_data import TrainingData
from trsr.baselines.validation import Validation
from trsr.errors import ArtifactError, DataError, ModelError
from trsr.registry import BASELINES

NAMES = tuple(name for name, path in BASELINES.items() if "neural" in path and "llm2" not in name)
KNOWS_ORDER = {"caser", "gru4rec", "sasrec", "esasrec", "bert4rec", "sasrec_text"}
HISTORIES = [walk(3, 4), np.empty(0, np.int32), walk(11, 1), walk(20, 9), walk(5, 6)]
USERS = [f"u{place}" for place in range(len(HISTORIES))]


def small(name: str, seed: int = 0, **changes: object) -> Sequential:
    made = baseline_class(name)
    defaults = made.Settings()
    settings = {
        "width": 16,
        "dropout": 0.1,
        "learning_rate": 1e-2,
        "batch_size": 32 if name in KNOWS_ORDER else 128,
        "max_epochs": 25,
        "patience": 25,
        "warmup_steps": 10,
        "average": 0.9 if defaults.average else 0.0,
    }
    if isinstance(defaults, VectorSettings):
        settings["encoder"] = "lsa(width=16)"
    return made(seed=seed, **settings | changes)


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return planted()


@cache
def fitted(name: str, **changes: object) -> Sequential:
    """Train a system once for all tests that only ask it."""
    system = small(name, **changes)
    system.fit(planted())
    return system


@pytest.fixture(scope="module", params=NAMES)
def trained(request: pytest.FixtureRequest) -> Sequential:
    return fitted(request.param)


def recall_at_3(scores: NDArray[np.float64], targets: NDArray[np.int64]) -> float:
    own = np.take_along_axis(scores, targets[:, None], axis=1)
    return float(((scores > own).sum(axis=1) < 3).mean())


def test_the_planted_order_is_learnt(trained: Sequential) -> None:
    fresh = planted(users=1, valid_users=200, seed=9)
    scores = trained.score(fresh.valid_users, fresh.valid_histories, fresh.valid_candidates)
    # Popularity knows nothing here: every item is as popular as any, which gives 3 / 21.
    assert recall_at_3(scores, fresh.valid_targets) > (0.9 if trained.name in KNOWS_ORDER else 0.45)


def test_candidates_get_the_scores_of_the_catalogue(trained: Sequential) -> None:
    table = trained.score(USERS, HISTORIES)
    assert table.shape == (len(USERS), N_ITEMS)
    assert np.isfinite(table).all()
    candidates = np.random.default_rng(0).permuted(np.tile(np.arange(N_ITEMS), (len(USERS), 1)), axis=1)
    asked = trained.score(USERS, HISTORIES, candidates.astype(np.int32))
    assert np.allclose(asked, np.take_along_axis(table, candidates, axis=1), rtol=0, atol=1e-5)


def test_other_users_of_a_batch_change_nothing(trained: Sequential) -> None:
    together = trained.score(USERS, HISTORIES)
    for place, history in enumerate(HISTORIES):
        alone = trained.score(["whoever"], [history])
        assert np.allclose(alone[0], together[place], rtol=0, atol=1e-5)


def test_chunks_change_nothing(trained: Sequential, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained.score(USERS, HISTORIES)
    monkeypatch.setattr(sequential, "_USERS_A_CHUNK", 2)
    monkeypatch.setattr(type(trained._network), "candidates_a_chunk", 7)
    assert np.allclose(trained.score(USERS, HISTORIES), whole, rtol=0, atol=1e-5)


def test_nobody_is_scored_without_complaint(trained: Sequential) -> None:
    assert trained.score([], []).shape == (0, N_ITEMS)


def test_a_history_longer_than_is_read_counts_by_its_newest_items(trained: Sequential) -> None:
    long = walk(4, trained.settings.max_length + 30)
    newest = long[-trained.settings.max_length :]
    assert np.array_equal(trained.score(["u"], [long]), trained.score(["u"], [newest]))


def test_a_saved_system_scores_the_same(trained: Sequential, tmp_path: Path) -> None:
    trained.save(tmp_path)
    loaded = type(trained).load(tmp_path)
    assert np.array_equal(loaded.score(USERS, HISTORIES), trained.score(USERS, HISTORIES))
    assert (loaded.name, loaded.seed, loaded.settings) == (trained.name, trained.seed, trained.settings)
    assert loaded.record == trained.record
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".safetensors"]


def test_the_record_says_how_it_was_trained(trained: Sequential, data: TrainingData) -> None:
    record = trained.record
    assert record.examples == sum(map(len, data.sequences))
    assert 1 <= record.best_epoch <= record.epochs == 25
    assert record.seconds > 0
    assert 0.3 < record.validation <= 1
    assert record.negatives


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_gives_the_same_system_and_another_seed_another(name: str, data: TrainingData) -> None:
    tables = []
    for seed in (1, 1, 2):
        torch.rand(seed)  # what was drawn before has no influence
        system = small(name, seed, max_epochs=2)
        system.fit(data)
        tables.append(system.score(USERS, HISTORIES))
    assert np.array_equal(tables[0], tables[1])
    assert not np.allclose(tables[0], tables[2], atol=1e-3)


def test_training_leaves_the_random_numbers_of_others_alone(data: TrainingData) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    small("sasrec", max_epochs=1).fit(data)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", ["ncf", "sasrec"])
def test_validation_targets_choose_the_epoch_and_nothing_else(name: str, data: TrainingData) -> None:
    shuffled = dataclasses.replace(data, valid_targets=(data.valid_targets + 5) % 21)
    tables = []
    for shown in (data, shuffled):
        # With one epoch there is nothing to choose.
        system = small(name, max_epochs=1)
        system.fit(shown)
        tables.append(system.score(USERS, HISTORIES))
    assert np.array_equal(*tables)


def test_training_stops_when_validation_no_longer_improves(data: TrainingData) -> None:
    system = small("sasrec", max_epochs=200, patience=3)
    system.fit(data)
    assert system.record.epochs == system.record.best_epoch + 3


def test_without_validation_users_the_last_epoch_is_kept(data: TrainingData, tmp_path: Path) -> None:
    nobody = dataclasses.replace(
        data,
        valid_users=(),
        valid_histories=(),
        valid_candidates=np.empty((0, 0), np.int32),
        valid_targets=np.empty(0, np.int64),
    )
    system = small("gru4rec", max_epochs=3)
    system.fit(nobody)
    assert (system.record.epochs, system.record.best_epoch) == (3, 3)
    system.save(tmp_path)
    assert json.loads((tmp_path / "sequential.json").read_text())["record"]["validation"] is None
    assert np.isnan(GRU4Rec.load(tmp_path).record.validation)


def test_an_item_that_nobody_took_is_scored_by_its_text() -> None:
    # Titles say "pair19" of items 38 and 39 alone.
    before_38 = [walk((38 - 7 * 4) % NEVER_TAKEN, 4)]
    tables = [fitted(name).score(["u"], before_38)[0] for name in ("sasrec_text", "sasrec")]
    below_39 = [float((table < table[39]).mean()) for table in tables]
    assert below_39[0] > 0.6 > below_39[1]


def test_items_that_nobody_took_are_scored_like_rare_ones(data: TrainingData) -> None:
    sequences = tuple(np.where(taken > 35, 0, taken).astype(np.int32) for taken in data.sequences)
    system = small("sasrec", max_epochs=3)
    system.fit(dataclasses.replace(data, sequences=sequences))
    table = system.score(USERS, HISTORIES)
    assert np.allclose(table[:, 36:39], table[:, 39:], atol=1e-5)
    assert (table[:, 39] > table[:, :36].min(axis=1)).all()


def test_an_interrupted_training_leaves_nothing_behind(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> float:
        raise KeyboardInterrupt

    system = small("sasrec", max_epochs=1)
    with monkeypatch.context() as patched:
        patched.setattr(Validation, "__call__", interrupt)
        with pytest.raises(KeyboardInterrupt):
            system.fit(data)
    with pytest.raises(ModelError, match="sasrec is not trained"):
        system.score(USERS, HISTORIES)
    system.fit(data)
    assert system.score(USERS, HISTORIES).shape == (len(USERS), N_ITEMS)


def test_no_bar_without_a_terminal(data: TrainingData, capfd: pytest.CaptureFixture[str]) -> None:
    small("sasrec", max_epochs=1).fit(data)
    assert capfd.readouterr() == ("", "")


def test_what_was_never_trained_says_so(tmp_path: Path) -> None:
    system = DIN(seed=0)
    with pytest.raises(ModelError, match="call fit first"):
        system.save(tmp_path)
    with pytest.raises(ModelError, match="call fit first"):
        _ = system.record


def test_nothing_to_learn_from_is_refused(data: TrainingData) -> None:
    with pytest.raises(DataError, match="sequences of 2 items or more"):
        SASRec(seed=0).fit(dataclasses.replace(data, sequences=()))


def test_a_loss_that_is_no_number_is_told(data: TrainingData) -> None:
    system = small("gru4rec", learning_rate=1e30)
    with pytest.raises(ModelError, match="lower its setting learning_rate"):
        system.fit(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "form 99"),
        ({"name": "tigger"}, "system 'tigger'"),
        ({"settings": {"depth": 3}}, "depth"),
        ({"n_items": 12}, "not the weights of sasrec"),
    ],
)
def test_a_damaged_folder_is_told(tmp_path: Path, change: dict[str, object], message: str) -> None:
    fitted("sasrec", max_epochs=1).save(tmp_path)
    card = tmp_path / "sequential.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | change))
    with pytest.raises(ArtifactError, match=message):
        SASRec.load(tmp_path)


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no saved sasrec"):
        SASRec.load(tmp_path / "nowhere")
