from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from trsr.config.ranking import CompactModel
from trsr.config.summary import Prompting
from trsr.models.compact import build_model, train_tokenizer
from trsr.models.pretraining import GameOfAnswers, pretrain
from trsr.models.tokenization import PlainEncoder, TokenizerTokens
from trsr.prompts.ranking_prompt import RankingPrompt
from trsr.prompts.templates import Templates
from trsr.records import Item

SHELF = [
    Item(str(number), {"title": f"{noun} {number}"}) for number in range(8) for noun in ("mug", "lamp", "rug")
]
SHELF = [Item(f"{item.id}-{place}", item.fields) for place, item in enumerate(SHELF)]
TOKENIZER = train_tokenizer(
    [i.fields["title"] for i in SHELF], ["Likes: \nRecent:\n- ? \nAnswer:"], ("yes", "no"), 320
)
ENCODE = PlainEncoder(TOKENIZER)
YES, NO, BREAK = (ENCODE([text])[0] for text in (" yes", " no", "\n"))
SETTINGS = CompactModel(
    vocabulary=320, hidden=32, layers=1, heads=2, pretrain_epochs=3, pretrain_learning_rate=5e-3
)


def game(max_tokens: int = 512) -> GameOfAnswers:
    prompting = Prompting(domain="shopping", recent_items=3, max_tokens=max_tokens)
    prompt = RankingPrompt(
        Templates("shopping"), ENCODE, TokenizerTokens(ENCODE), prompting, item_tokens=8, terse=True
    )
    return GameOfAnswers(prompt, (YES[0], NO[0]), BREAK, SHELF, negatives=2)


def told(
    history: list[Item], seed: int, summary: str = "Tea.", max_tokens: int = 512
) -> tuple[str, list[tuple[str, str]]]:
    document = game(max_tokens).document(history, summary, np.random.default_rng(seed))
    text = TOKENIZER.decode(document.ids)
    asked = [question.split("\nanswer: ") for question in text.split("? ")[1:]]
    assert [TOKENIZER.decode([document.ids[place]]) for place in document.answers] == [
        f" {a.strip()}" for _, a in asked
    ]
    return text, [(question, answer.strip()) for question, answer in asked]


@pytest.mark.parametrize("seed", range(8))
def test_items_of_the_history_are_answered_yes_in_order_and_others_no(seed: int) -> None:
    history = SHELF[:10]
    own = [item.fields["title"] for item in history]
    text, asked = told(history, seed)
    chosen = [question for question, answer in asked if answer == "yes"]
    assert chosen
    assert chosen == own[-len(chosen) :], "the history from some place to its end"
    assert not {question for question, answer in asked if answer == "no"} & set(own)
    recent = [line.removeprefix("- ") for line in text.split("? ")[0].splitlines() if line.startswith("- ")]
    before = own[: len(own) - len(chosen)]
    assert recent == before[-3:], "what stands as recent is what came just before"


def test_the_summary_is_shown_most_times_but_not_always() -> None:
    shown = ["likes: tea." in told(SHELF[:4], seed)[0] for seed in range(60)]
    assert 30 < sum(shown) < 58


def test_the_place_where_the_telling_begins_changes() -> None:
    assert (
        len({len([1 for _, answer in told(SHELF[:10], seed)[1] if answer == "yes"]) for seed in range(30)})
        > 5
    )


def test_a_document_keeps_the_budget() -> None:
    for seed in range(10):
        document = game(96).document(SHELF, "Tea.", np.random.default_rng(seed))
        assert len(document.ids) <= 96
        assert len(document.answers) >= 1


def test_pretraining_learns_and_is_the_seeds(tmp_path: Path) -> None:
    histories = [SHELF[start : start + 6] for start in range(12)]

    def train(seed: int) -> tuple[list[dict[str, float]], torch.Tensor]:
        model = build_model(SETTINGS, TOKENIZER, 0)
        log = pretrain(model, game(), histories, [""] * 12, SETTINGS, tmp_path, seed)
        return log, model.get_input_embeddings().weight.detach().clone()

    log, weights = train(1)
    again, same = train(1)
    assert log == again
    assert torch.equal(weights, same)
    assert not torch.equal(weights, train(2)[1])
    assert log[-1]["loss"] < log[0]["loss"] - 0.3


def test_no_passes_leave_the_model_as_it_was(tmp_path: Path) -> None:
    model = build_model(SETTINGS, TOKENIZER, 0)
    before = model.get_input_embeddings().weight.detach().clone()
    none = SETTINGS.model_copy(update={"pretrain_epochs": 0.0})
    assert pretrain(model, game(), [SHELF[:6]], [""], none, tmp_path, 0) == []
    assert torch.equal(before, model.get_input_embeddings().weight)
