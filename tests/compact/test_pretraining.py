from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from trsr.compact import next_item as pretraining
from trsr.compact.model import build_model, train_tokenizer
from trsr.compact.next_item import WINDOW, Framed, ItemTokens, Towers, batch_chance, next_item_loss, pretrain
from trsr.config.ranking import CompactModel

TITLES = [f"{noun} {colour}" for colour in ("red", "blue") for noun in ("mug", "lamp", "rug", "vase", "bowl")]
TOKENIZER = train_tokenizer(TITLES, ["Likes: \nRecent:\n- ? \nAnswer:"], ("yes", "no"), 400)
SETTINGS = CompactModel(
    vocabulary=400, hidden=32, layers=1, heads=2, pretrain_epochs=12, pretrain_learning_rate=3e-3
)
HISTORIES = [[(start + step) % 10 for step in range(6)] for start in range(10)] * 14
"""Item n is always followed by item n + 1."""


def items() -> ItemTokens:
    texts = TOKENIZER([f" {title}" for title in TITLES]).input_ids
    head, dash, line, question, slot = TOKENIZER(["recent:\n", "-", "\n", "?", "\nanswer:"]).input_ids
    return ItemTokens(
        tuple(head),
        Framed.of([[*dash, *text, *line] for text in texts]),
        Framed.of([[*question, *text, *slot] for text in texts]),
    )


def trained(
    folder: Path, seed: int = 0, epochs: float = 12
) -> tuple[torch.nn.Module, list[dict[str, float]]]:
    model = build_model(SETTINGS, TOKENIZER, 0)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(20)
    settings = SETTINGS.model_copy(update={"pretrain_epochs": epochs})
    return model, pretrain(model.model, items(), HISTORIES, settings, folder, seed)


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_the_loss_is_the_naive_one() -> None:
    generator = np.random.default_rng(0)
    scores, chance = generator.normal(size=(4, 6)), generator.uniform(0.1, 1, 6)
    following = [2, 0, 5, 2]
    naive = 0.0
    for row, true in zip(scores, following, strict=True):
        corrected = [np.exp(score) / odds for score, odds in zip(row, chance, strict=True)]
        naive -= np.log(corrected[true] / sum(corrected)) / len(scores)
    loss = next_item_loss(torch.tensor(scores), torch.tensor(following), torch.tensor(chance))
    assert loss.item() == pytest.approx(naive, rel=1e-6)


def test_the_chance_to_be_in_a_batch_is_what_drawing_gives() -> None:
    generator = np.random.default_rng(0)
    counts = np.array([0.0, 1.0, 5.0, 14.0])
    seen = np.zeros(4)
    for _ in range(4000):
        asked = generator.choice(4, 3, p=counts / counts.sum())
        seen[np.unique([*asked, *generator.integers(4, size=1)])] += 1
    # The Poisson form treats the number of each item's draws as free, which is close for small chances.
    assert batch_chance(counts, 3, 1) == pytest.approx(seen / 4000, abs=0.09)
    assert (np.diff(batch_chance(counts, 3, 1)) > 0).all()


def test_every_item_but_the_first_is_asked_for_once_a_pass_in_a_history_that_fits() -> None:
    for history in (list(range(2)), list(range(WINDOW + 1))):
        assert pretraining._windows(history, np.random.default_rng(0)) == [tuple(history)]
    assert pretraining._windows([1], np.random.default_rng(0)) == []


@pytest.mark.parametrize("seed", range(5))
def test_a_long_history_is_cut_into_windows_that_ask_for_every_item(seed: int) -> None:
    history = list(range(27))
    windows = pretraining._windows(history, np.random.default_rng(seed))
    assert {item for window in windows for item in window[1:]} == set(history[1:])
    assert all(1 < len(window) <= WINDOW + 1 for window in windows)
    assert all(list(window) == history[window[0] : window[-1] + 1] for window in windows)


def test_scores_compare_line_ends_with_answer_slots() -> None:
    towers = Towers(build_model(SETTINGS, TOKENIZER, 0).model, seed=0).eval()
    plan = pretraining._plan(HISTORIES[:8], 1, seed=0)
    inputs = pretraining._collate(plan[0], items(), np.ones(10))
    following, _ = inputs.pop("following"), inputs.pop("chance")
    slots = inputs["candidates"][torch.arange(len(inputs["slot"])), inputs["slot"]]
    assert {TOKENIZER.decode([token]) for token in slots} == {":"}
    ends = inputs["histories"][inputs["row"], inputs["place"]]
    assert {TOKENIZER.decode([token]) for token in ends} == {"\n"}
    scores = towers(**inputs)
    assert scores.shape == (len(following), len(slots))
    # Padding beside others changes nothing.
    alone = towers(
        inputs["histories"][:1], inputs["row"][:5], inputs["place"][:5], inputs["candidates"], inputs["slot"]
    )
    torch.testing.assert_close(alone, scores[:5], atol=1e-4, rtol=1e-4)


def test_it_learns_what_comes_next_and_is_the_seeds(tmp_path: Path) -> None:
    _, log = trained(tmp_path / "long", epochs=30)
    assert log[-1]["loss"] < log[0]["loss"] - 0.2
    model, once = trained(tmp_path / "a", epochs=2)
    again, same = trained(tmp_path / "b", epochs=2)
    other, _ = trained(tmp_path / "c", seed=1, epochs=2)
    assert once == same
    assert torch.equal(weights(model), weights(again))
    assert not torch.equal(weights(model), weights(other))


def test_a_killed_training_goes_on_and_ends_in_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretraining, "_STEPS_UNSAVED", 7)
    whole, log = trained(tmp_path / "whole")
    saved = sorted((tmp_path / "whole").glob("checkpoint-*"))
    assert len(saved) == 1
    collate, seen = pretraining._collate, []

    def die(*args: object) -> object:
        seen.append(args)
        if len(seen) > 16:
            raise KeyboardInterrupt
        return collate(*args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(pretraining, "_collate", die)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "killed")
    assert (tmp_path / "killed" / "checkpoint-14").exists()
    shutil.copytree(tmp_path / "killed" / "checkpoint-14", tmp_path / "killed" / "checkpoint-99")
    (tmp_path / "killed" / "checkpoint-99" / "trainer_state.json").write_text("{")
    resumed, resumed_log = trained(tmp_path / "killed")
    assert torch.equal(weights(whole), weights(resumed))
    assert [entry["loss"] for entry in resumed_log] == [entry["loss"] for entry in log]
    finished, _ = trained(tmp_path / "killed")
    assert torch.equal(weights(whole), weights(finished)), "a finished training isn't repeated"


def test_no_passes_leave_the_model_as_it_was(tmp_path: Path) -> None:
    model = build_model(SETTINGS, TOKENIZER, 0)
    before = weights(model)
    assert (
        pretrain(
            model.model, items(), HISTORIES, SETTINGS.model_copy(update={"pretrain_epochs": 0.0}), tmp_path, 0
        )
        == []
    )
    assert torch.equal(before, weights(model))


def test_a_thinned_item_keeps_its_frame_and_something_of_its_text() -> None:
    framed = Framed.of([[1, 5, 6, 7, 8, 2], [1, 9, 2]])
    generator = np.random.default_rng(0)
    drawn = [framed.thinned(0, generator) for _ in range(200)]
    assert all(row[0] == 1 and row[-1] == 2 and len(row) > 2 for row in drawn)
    assert len({tuple(row) for row in drawn}) > 5
    assert 3.0 < np.mean([len(row) - 2 for row in drawn]) < 3.4
    assert framed.thinned(1, generator) == [1, 9, 2]
