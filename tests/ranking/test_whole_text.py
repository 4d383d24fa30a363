from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from tiny_shop import PROMPTING, model, tokenizer, users
from torch.nn import functional

from trsr.config.ranking import Training
from trsr.ranking.ranker import Origin, Ranker
from trsr.ranking.shared_prefix.layout import UserPrompts
from trsr.ranking.training import fine_tune, whole_text_loss

MODEL = model("qwen2", 600).eval()


def test_the_loss_is_the_mean_over_every_token_of_every_prompt() -> None:
    prompts = [UserPrompts((5, 6, 7), [(8, 9), (10,)]), UserPrompts((11,), [(12, 13, 14)])]
    answers = torch.tensor([20, 21, 22])
    rows = [[5, 6, 7, 8, 9, 20], [5, 6, 7, 10, 21], [11, 12, 13, 14, 22]]
    losses = []
    for row in rows:
        ids = torch.tensor([row])
        losses += functional.cross_entropy(MODEL(ids).logits[0, :-1], ids[0, 1:], reduction="none").tolist()
    assert len(losses) == sum(map(len, rows)) - len(rows)
    got = whole_text_loss(MODEL, prompts, answers)
    assert got.item() == pytest.approx(sum(losses) / len(losses), abs=1e-5)


def test_training_on_all_tokens_learns_the_texts_too(tmp_path: Path) -> None:
    made = tokenizer()
    losses = {}
    for tokens in ("answer", "all"):
        ranker = Ranker(model("qwen2", len(made)), made, PROMPTING, 16, Origin("huggingface", "test"))
        settings = Training(method="full", tokens=tokens, epochs=3, negatives=1, learning_rate=3e-3)
        log = fine_tune(ranker, users(24), [], settings, tmp_path / tokens, seed=0)
        assert [entry["loss"] for entry in log if "loss" in entry][-1] < log[0]["loss"]
        prompts = [user.ask([0]) for user in ranker.encode(users(8))]
        with torch.no_grad():
            losses[tokens] = whole_text_loss(ranker.model, prompts, torch.zeros(8, dtype=torch.long)).item()
    assert losses["all"] < 0.8 * losses["answer"]


def test_all_tokens_and_listwise_do_not_go_together() -> None:
    with pytest.raises(ValidationError, match="tokens: all is a loss of single prompts"):
        Training(tokens="all", loss="listwise")
