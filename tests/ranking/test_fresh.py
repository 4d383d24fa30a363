from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_shop
from peft import PeftModel

from trsr.config import Config
from trsr.config.ranking import CompactModel, HuggingFaceModel, Training
from trsr.ranking import fresh
from trsr.ranking.fresh import fresh_ranker
from trsr.ranking.training import fine_tune

SMALL = CompactModel(vocabulary=400, hidden=32, layers=2, heads=4, pretrain_epochs=2)
CONFIG = Config(model=SMALL, prompt=tiny_shop.PROMPTING)
PEOPLE = tiny_shop.users(40)
HISTORIES = [(*user.history, user.candidates[user.target or 0]) for user in PEOPLE]
SUMMARIES = [user.summary for user in PEOPLE]


def test_the_compact_model_is_made_from_the_catalogue_and_named_so(tmp_path: Path) -> None:
    ranker, log = fresh_ranker(CONFIG, tiny_shop.ITEMS, HISTORIES, tmp_path, summaries=SUMMARIES)
    assert ranker.origin.kind == "compact"
    assert ranker.origin.identity == "compact-32x2"
    assert ranker.prompt.terse
    assert log
    text = ranker.prompt.prefix("Likes red things.", tiny_shop.ITEMS[:1]).text
    assert len(ranker.prompt.prefix("Likes red things.", tiny_shop.ITEMS[:1]).ids) < len(text) / 2
    assert "title:" not in text, "the compact prompt spares the names of the fields"


def test_a_run_that_was_killed_after_pretraining_does_not_repeat_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, log = fresh_ranker(CONFIG, tiny_shop.ITEMS, HISTORIES, tmp_path, summaries=SUMMARIES)

    def refuse(*args: object) -> None:
        pytest.fail("pre-training ran again")

    with monkeypatch.context() as patch:
        patch.setattr(fresh, "pretrain", refuse)
        second, again = fresh_ranker(CONFIG, tiny_shop.ITEMS, HISTORIES, tmp_path, summaries=SUMMARIES)
    assert again == log
    for one, other in zip(first.score(PEOPLE[:3]), second.score(PEOPLE[:3]), strict=True):
        np.testing.assert_array_equal(one, other)
    other, other_log = fresh_ranker(
        CONFIG, tiny_shop.ITEMS, HISTORIES[:20], tmp_path, summaries=SUMMARIES[:20]
    )
    assert other_log != log, "other histories are another pre-training"


def test_any_other_model_comes_from_its_folder_untrained(tmp_path: Path) -> None:
    made = tiny_shop.ranker("llama")
    made.model.save_pretrained(tmp_path / "llama")
    made.tokenizer.save_pretrained(tmp_path / "llama")
    model = HuggingFaceModel(kind="huggingface", path=str(tmp_path / "llama"))
    ranker, log = fresh_ranker(
        CONFIG.model_copy(update={"model": model}), tiny_shop.ITEMS, HISTORIES, tmp_path
    )
    assert log == []
    assert ranker.origin.base == model
    assert not ranker.prompt.terse


def test_the_compact_model_trains_all_its_weights_and_others_an_adapter(tmp_path: Path) -> None:
    once = Training(epochs=1, max_users=4)
    compact, _ = fresh_ranker(CONFIG, tiny_shop.ITEMS, HISTORIES[:4], tmp_path / "a")
    fine_tune(compact, PEOPLE, [], once, tmp_path / "b", seed=0)
    assert all(parameter.requires_grad for parameter in compact.model.parameters())
    other = tiny_shop.ranker()
    fine_tune(other, PEOPLE, [], once, tmp_path / "c", seed=0)
    assert isinstance(other.model, PeftModel)
