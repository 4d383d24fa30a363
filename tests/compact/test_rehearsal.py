from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tiny_shop
import torch

from trsr.compact import next_item
from trsr.compact import start as rehearsal
from trsr.compact.start import Question, _thin, draw_questions, rehearse
from trsr.ranking.ranker import Ranker
from trsr.records import Item

HISTORIES = [[place for place in range(24) if place % 4 == colour] for colour in range(4)]
"""Each history holds the places of one colour of the tiny shop."""


def weights(ranker: Ranker) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in ranker.model.parameters()])


def test_a_question_shows_what_came_before_and_asks_for_what_came_next() -> None:
    for question in draw_questions(HISTORIES, 24, 60, seed=0):
        history = HISTORIES[question.asked[0] % 4]
        place = history.index(question.asked[0])
        assert list(question.shown) == history[max(0, place - rehearsal.WINDOW) : place]
        others = question.asked[1:]
        assert others
        assert not set(others) & set(history), "what the user took at any time is no negative"
        assert len(set(others)) == len(others)


def test_every_place_is_asked_once_before_any_comes_again() -> None:
    places = sum(len(history) - 1 for history in HISTORIES)
    asked = Counter(question.asked[0] for question in draw_questions(HISTORIES, 24, 2 * places, seed=1))
    assert set(asked.values()) == {2}
    assert len(draw_questions(HISTORIES, 24, 7, seed=1)) == 7
    assert draw_questions([[3]], 24, 7, seed=1) == []


def test_some_of_the_others_are_popular_items() -> None:
    histories = [[0, 1], [0, 1], [0, 1], [2, 3]] * 30
    questions = draw_questions(histories, 2000, 120, seed=0)
    of_others = Counter(item for question in questions for item in question.asked[1:] if item < 4)
    assert sum(of_others.values()) > 10, "uniform drawing would give two or three"


def test_questions_are_the_seeds() -> None:
    one, same, other = (draw_questions(HISTORIES, 24, 20, seed) for seed in (0, 0, 1))
    assert one == same != other


def test_the_ranker_learns_the_answers_and_a_killed_training_ends_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(next_item, "_STEPS_UNSAVED", 5)
    monkeypatch.setattr(rehearsal, "_BATCH", 8)
    questions = draw_questions(HISTORIES, 24, 240, seed=0)
    whole = tiny_shop.ranker()
    log = rehearse(whole, tiny_shop.ITEMS, questions, tmp_path / "whole", seed=0)
    assert np.mean([entry["loss"] for entry in log[-5:]]) < log[0]["loss"] - 0.3
    asked: list[Question] = []
    collate = rehearsal._RehearsalTrainer._collate

    def die(self: rehearsal._RehearsalTrainer, batch: list[Question]) -> object:
        asked.extend(batch)
        if len(asked) > 8 * 12:
            raise KeyboardInterrupt
        return collate(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(rehearsal._RehearsalTrainer, "_collate", die)
        with pytest.raises(KeyboardInterrupt):
            rehearse(tiny_shop.ranker(), tiny_shop.ITEMS, questions, tmp_path / "killed", seed=0)
    resumed = tiny_shop.ranker()
    rehearse(resumed, tiny_shop.ITEMS, questions, tmp_path / "killed", seed=0)
    assert torch.equal(weights(whole), weights(resumed))


def test_without_questions_nothing_changes(tmp_path: Path) -> None:
    ranker = tiny_shop.ranker()
    before = weights(ranker)
    assert draw_questions([[0, 1, 2]], 6, 0, seed=0) == []
    assert rehearse(ranker, tiny_shop.ITEMS, [], tmp_path, seed=0) == []
    assert torch.equal(before, weights(ranker))


def test_the_share_of_popular_others_is_what_was_asked_for() -> None:
    histories = [[0, 1, 2 + place % 5] for place in range(300)]
    shares = []
    for popular in (0.0, 1.0):
        questions = draw_questions(histories, 2000, 100, seed=0, popular=popular)
        others = [item for question in questions for item in question.asked[1:]]
        shares.append(sum(item < 7 for item in others) / len(others))
    assert shares[0] < 0.02
    # Four popular items are left, and each is asked about once among twenty.
    assert shares[1] > 0.06


def test_words_are_left_out_by_the_questions_number_and_never_all() -> None:
    item = Item("x", {"title": "one two three four five six seven eight", "brand": "Ox"})
    thinned = [_thin(item, 0.5, np.random.default_rng(number)) for number in range(50)]
    assert all(each.fields["brand"] == "Ox" for each in thinned)
    words = [len(each.fields["title"].split()) for each in thinned]
    assert 2 < np.mean(words) < 6
    assert min(words) >= 1
    assert thinned[7] == _thin(item, 0.5, np.random.default_rng(7))
    assert _thin(item, 0.0, np.random.default_rng(0)) is item


def test_words_are_left_out_where_no_spaces_stand() -> None:
    item = Item("1", {"title": "軽量植木鉢園芸用品音響機器"})
    thinned = [_thin(item, 0.5, np.random.default_rng(number)).fields["title"] for number in range(50)]
    assert 3 < np.mean([len(title) for title in thinned]) < 11
    assert " " not in "".join(thinned)
