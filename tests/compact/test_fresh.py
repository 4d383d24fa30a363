from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_shop
from peft import PeftModel

from trsr.bundle import put_model
from trsr.compact import next_item
from trsr.compact import start as fresh
from trsr.compact.start import Log, fresh_ranker, item_tokens, pretrain_ranker
from trsr.config import Config
from trsr.config.ranking import CompactModel, HuggingFaceModel, Lora, Training
from trsr.errors import ArtifactError, ConfigError
from trsr.ranking.ranker import Ranker
from trsr.ranking.training import fine_tune
from trsr.records import Item

SMALL = CompactModel(vocabulary=400, hidden=32, layers=2, heads=4, pretrain_epochs=1, pretrain_questions=16)
CONFIG = Config(model=SMALL, prompt=tiny_shop.PROMPTING)
PEOPLE = tiny_shop.users(40)
HISTORIES = [[item.id for item in (*user.history, user.candidates[user.target or 0])] for user in PEOPLE]


def make(folder: Path, config: Config = CONFIG, people: int = 40) -> tuple[Ranker, Log]:
    return pretrain_ranker(config, tiny_shop.ITEMS, tiny_shop.ITEMS, HISTORIES[:people], folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ranker, Log]:
    """A pre-trained ranker, only to be read."""
    return make(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def pretrained(made: tuple[Ranker, Log], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "pretrained"
    made[0].save(folder)
    return folder


def test_the_compact_model_is_made_from_the_catalogue_and_named_so(made: tuple[Ranker, Log]) -> None:
    ranker, log = made
    assert ranker.origin.kind == "compact"
    assert ranker.origin.identity == "compact-32x2"
    assert ranker.prompt.terse
    assert log["next_item"]
    assert log["questions"]
    prefix = ranker.prompt.prefix("Likes red things.", tiny_shop.ITEMS[:1])
    assert len(prefix.ids) < len(prefix.text) / 2
    assert "title:" not in prefix.text, "the compact prompt spares the names of the fields"


def test_the_same_seed_makes_the_same_model_and_another_another(
    made: tuple[Ranker, Log], tmp_path: Path
) -> None:
    one, log = made
    same, same_log = make(tmp_path / "same")
    assert log == same_log
    for mine, theirs in zip(one.score(PEOPLE[:3]), same.score(PEOPLE[:3]), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    _, other_log = make(tmp_path / "other", CONFIG.model_copy(update={"seed": 1}))
    assert other_log != log


def test_a_run_that_was_killed_after_a_phase_does_not_repeat_it(
    made: tuple[Ranker, Log], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, log = made

    def die(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fresh, "rehearse", die)
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path / "killed")
    (saved,) = (tmp_path / "killed" / "next_item").glob("checkpoint-*")
    written = saved.stat().st_mtime_ns
    resumed, resumed_log = make(tmp_path / "killed")
    assert saved.stat().st_mtime_ns == written
    assert resumed_log == log
    for one, other in zip(whole.score(PEOPLE[:3]), resumed.score(PEOPLE[:3]), strict=True):
        np.testing.assert_array_equal(one, other)
    _, other_log = make(tmp_path / "killed", people=20)
    assert other_log != log, "other histories are another pre-training"


def test_one_pretrained_model_serves_every_way_to_show_a_user(pretrained: Path, tmp_path: Path) -> None:
    first = fresh_ranker(CONFIG, pretrained)
    assert first.prompt.prompting == CONFIG.prompt
    shown = CONFIG.prompt.model_copy(update={"recent_items": 0, "summary_tokens": 40})
    other = CONFIG.model_copy(update={"prompt": shown})
    assert fresh.pretraining_settings(other) == fresh.pretraining_settings(CONFIG)
    assert fresh_ranker(other, pretrained).prompt.prompting.recent_items == 0
    elsewhere = SMALL.model_copy(update={"start": pretrained})
    borrowed = fresh_ranker(CONFIG.model_copy(update={"model": elsewhere}), tmp_path / "none")
    for one, two in zip(first.score(PEOPLE[:3]), borrowed.score(PEOPLE[:3]), strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_prompts_parts_put_together_are_the_prompt(made: tuple[Ranker, Log]) -> None:
    prompt = made[0].prompt
    parts = item_tokens(prompt, tiny_shop.ITEMS)
    lines, candidates = parts.lines, parts.candidates
    window = (5, 0, 7)
    told = [token for place in window for token in (*lines.before, *lines.texts[place], *lines.after)]
    assert (*parts.head, *told) == prompt.prefix("", [tiny_shop.ITEMS[place] for place in window]).ids
    suffix = (*candidates.before, *candidates.texts[9], *candidates.after)
    assert suffix == prompt.suffix(tiny_shop.ITEMS[9]).ids


def test_a_ranker_told_the_nearest_items_finds_them_again_when_it_is_loaded(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"prompt": CONFIG.prompt.model_copy(update={"nearest_items": 1})})
    assert fresh.pretraining_settings(config) != fresh.pretraining_settings(CONFIG)
    start, _ = make(tmp_path / "made", config, people=8)
    with pytest.raises(ConfigError, match=r"prompt\.nearest_items.*learnt from the catalogue"):
        fresh_ranker(config, start)
    ranker = fresh_ranker(config, start, catalogue=tiny_shop.ITEMS)
    fine_tune(ranker, PEOPLE[:4], [], Training(epochs=1, negatives=2), tmp_path / "checkpoints", seed=0)
    ranker.save(tmp_path / "model")
    put_model(tmp_path / "model", tmp_path / "moved")
    loaded = Ranker.load(tmp_path / "moved")
    *shown, old = reversed(PEOPLE[0].history * 2)
    assert len(shown) >= config.prompt.recent_items
    long = replace(PEOPLE[0], history=(old, *reversed(shown)))
    other = replace(long, history=(Item("x", {"title": "zebra"}), *long.history[1:]))
    [one, two], again = ranker.score([long, other]), loaded.score([long, other])
    np.testing.assert_array_equal([one, two], again)
    assert ranker.encode([long])[0].prefix == ranker.encode([other])[0].prefix
    (tmp_path / "moved" / "words.json").unlink()
    with pytest.raises(ArtifactError, match=r"words\.json"):
        Ranker.load(tmp_path / "moved")


def test_any_other_model_comes_from_its_folder_untrained(tmp_path: Path) -> None:
    made = tiny_shop.ranker("llama")
    made.model.save_pretrained(tmp_path / "llama")
    made.tokenizer.save_pretrained(tmp_path / "llama")
    model = HuggingFaceModel(kind="huggingface", path=str(tmp_path / "llama"))
    ranker = fresh_ranker(CONFIG.model_copy(update={"model": model}), None)
    assert ranker.origin.base == model
    assert not ranker.prompt.terse
    full = {"model": model, "training": Training(method="full")}
    whole = fresh_ranker(CONFIG.model_copy(update=full), None)
    assert whole.origin.base is not None
    assert whole.origin.base.dtype == "float32", "half-precision weights would lose most updates"


def test_any_other_model_is_questioned_through_an_adapter_and_fine_tuned_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = tiny_shop.ranker("llama")
    tiny.model.save_pretrained(tmp_path / "llama")
    tiny.tokenizer.save_pretrained(tmp_path / "llama")
    model = HuggingFaceModel(kind="huggingface", path=str(tmp_path / "llama"), pretrain_questions=96)
    training = Training(
        lora=Lora(rank=4, dropout=0.0), learning_rate=2e-2, batch_size=42, accumulation=2, epochs=1
    )
    config = CONFIG.model_copy(update={"model": model, "training": training})
    ranker, log = make(tmp_path / "whole", config)
    assert isinstance(ranker.model, PeftModel)
    assert log["next_item"] == []
    losses = [entry["loss"] for entry in log["questions"]]
    assert len(losses) == 24, "two questions of 21 prompts a pass, two passes an update"
    assert np.mean(losses[-6:]) < np.mean(losses[:6]) - 0.05
    collate, asked = fresh._RehearsalTrainer._collate, []

    def die(self: fresh._RehearsalTrainer, batch: list[fresh.Question]) -> object:
        asked.extend(batch)
        if len(asked) > 60:
            raise KeyboardInterrupt
        return collate(self, batch)

    monkeypatch.setattr(next_item, "_STEPS_UNSAVED", 5)
    with monkeypatch.context() as patch:
        patch.setattr(fresh._RehearsalTrainer, "_collate", die)
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path / "killed", config)
    resumed, _ = make(tmp_path / "killed", config)
    for one, other in zip(ranker.score(PEOPLE[:3]), resumed.score(PEOPLE[:3]), strict=True):
        np.testing.assert_array_equal(one, other)
    ranker.save(tmp_path / "pretrained")
    begun = fresh_ranker(config, tmp_path / "pretrained")
    for one, other in zip(ranker.score(PEOPLE[:3]), begun.score(PEOPLE[:3]), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    fine_tune(begun, PEOPLE[:8], [], training, tmp_path / "tuned", seed=0)
    assert isinstance(begun.model, PeftModel)
    assert not np.allclose(begun.score(PEOPLE[:1])[0], ranker.score(PEOPLE[:1])[0])
    once = fresh.pretraining_settings(config)
    other_rank = config.model_copy(update={"training": training.model_copy(update={"lora": Lora(rank=2)})})
    assert fresh.pretraining_settings(other_rank) != once
    more_epochs = config.model_copy(update={"training": training.model_copy(update={"epochs": 3})})
    assert fresh.pretraining_settings(more_epochs) == once


def test_the_compact_model_trains_all_its_weights_and_others_an_adapter(
    pretrained: Path, tmp_path: Path
) -> None:
    once = Training(epochs=1, max_users=4)
    compact = fresh_ranker(CONFIG, pretrained)
    fine_tune(compact, PEOPLE, [], once, tmp_path / "b", seed=0)
    assert all(parameter.requires_grad for parameter in compact.model.parameters())
    other = tiny_shop.ranker()
    fine_tune(other, PEOPLE, [], once, tmp_path / "c", seed=0)
    assert isinstance(other.model, PeftModel)
