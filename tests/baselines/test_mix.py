"""A mix of systems: what it adds up, what validation rows choose, and what its simple systems weigh."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from baselines_shop import DRILL, EMPTY, SAW, TEA, learnt_from, row
from topical_shop import N_ITEMS, topical

from trsr.baselines.base import open_baseline, score_places
from trsr.baselines.hybrids import Mix
from trsr.baselines.simple import ItemNeighbours
from trsr.baselines.text import TextSimilarity
from trsr.baselines.training_data import NOTHING, TrainingData
from trsr.baselines.validation import Validation
from trsr.config.data import SplitRule
from trsr.errors import ConfigError, DataError
from trsr.registry import BASELINES, spell

GIVEN = {"systems": ["tfidf", "popularity"], "weights": [1.0, 0.5], "penalty": 3.0}


def test_a_score_is_the_weighted_sum_of_standard_scores_less_the_penalty() -> None:
    data = topical(users=60, valid_users=8)
    system = Mix(**GIVEN)
    system.fit(data)
    histories = data.valid_histories[:3]
    text = TextSimilarity()
    text.fit(data)

    def standard(scores: np.ndarray) -> np.ndarray:
        centred = scores - scores.mean(axis=1, keepdims=True)
        return centred / scores.std(axis=1, keepdims=True)

    counts = np.tile(np.log1p(data.counts), (3, 1))
    wanted = standard(text.score(["u"] * 3, histories)) + 0.5 * standard(counts)
    for place, history in enumerate(histories):
        wanted[place, history] -= 3.0
    found = system.score(["u"] * 3, histories)
    assert np.allclose(found, wanted)
    asked = np.array([[5, 0, 9]] * 3, np.int32)
    assert np.allclose(system.score(["u"] * 3, histories, asked), wanted[:, [5, 0, 9]])


def again(repeats: bool) -> TrainingData:
    """Validation rows of the whole catalogue whose target is the newest item of the history, or another."""
    data = topical(users=60, valid_users=24)
    targets = [
        history[-1] if repeats else candidates[column]
        for history, candidates, column in zip(
            data.valid_histories, data.valid_candidates, data.valid_targets, strict=True
        )
    ]
    return dataclasses.replace(
        data,
        valid_candidates=np.array(targets, np.int32)[:, None],
        valid_targets=np.zeros(24, np.int64),
        rule=SplitRule(protocol="rolling"),
    )


@pytest.mark.parametrize("repeats", [True, False])
def test_whether_items_are_taken_again_is_learnt_from_the_data(repeats: bool) -> None:
    data = again(repeats)
    system = Mix(systems=["tfidf(decay=0.5)", "popularity"])
    system.fit(data)
    penalty = system._weights[-1]
    assert penalty == 0 if repeats else penalty >= 1
    [note, *_] = system.notes
    assert f"penalty {penalty:g}" in note
    assert "24 validation rows" in note


def test_chosen_weights_are_no_worse_than_any_single_change(tmp_path: Path) -> None:
    data = again(repeats=False)
    validation = Validation(data)
    system = Mix()
    system.fit(data)

    def figure(mix: Mix) -> float:
        return validation(lambda histories, asked: mix.score(["u"] * len(histories), histories, asked))

    best = figure(system)
    for place in range(1, 5):
        for value in (0.0, 0.3, 2.0):
            other = Mix()
            system.save(tmp_path / "mix")
            other.restore(tmp_path / "mix")
            assert other._weights == system._weights
            other._weights[place] = value
            assert figure(other) <= best + 1e-9


def test_weights_must_fit_and_need_validation_rows() -> None:
    with pytest.raises(ConfigError, match="one a system, 2 here, got 1"):
        spell("baseline", {"kind": "mix", "systems": ["tfidf", "popularity"], "weights": [1.0]}, BASELINES)
    with pytest.raises(DataError, match="give weights and penalty"):
        Mix(systems=["tfidf", "popularity"]).fit(learnt_from([[DRILL, SAW]]))


def test_neighbours_in_a_window_know_what_comes_next() -> None:
    system = ItemNeighbours(window=2, back_off=0.0, decay=1.0)
    system.fit(learnt_from([[DRILL, SAW, TEA]]))
    [scores] = system.score(["u"], [row(DRILL)])
    assert scores.tolist() == [0.0, 1.0, 0.5, 0.0]  # one step, two steps, never
    [scores] = system.score(["u"], [row(TEA)])
    assert scores.tolist() == [0.25, 0.5, 0.0, 0.0]  # what came before counts a half
    near = ItemNeighbours(window=1, back_off=0.0)
    near.fit(learnt_from([[DRILL, SAW, TEA], [DRILL, SAW]]))
    [scores] = near.score(["u"], [row(DRILL)])
    assert scores[SAW] == pytest.approx(2 / 2)  # two pairs, each item twice
    assert scores[TEA] == 0


def test_texts_of_newer_items_may_weigh_more_and_titles_stand_alone() -> None:
    data = learnt_from()
    whole, newest, titles = TextSimilarity(), TextSimilarity(decay=0.1), TextSimilarity(title=True)
    for system in (whole, newest, titles):
        system.fit(data)
    history = [row(TEA, SAW)]
    [even], [late] = whole.score(["u"], history), newest.score(["u"], history)
    assert even[SAW] == pytest.approx(even[TEA], abs=0.1)
    assert late[SAW] > 0.9 > 0.5 > late[TEA]
    [of_title] = titles.score(["u"], [row(TEA)])
    assert of_title[DRILL] == 0  # it shares the brand alone
    assert whole.score(["u"], [row(TEA)])[0, DRILL] > 0


def test_where_there_is_no_candidate_the_score_is_the_lowest() -> None:
    system = open_baseline("popularity", 0)
    system.fit(learnt_from([[DRILL, SAW]]))
    asked = np.array([[DRILL, EMPTY], [SAW, NOTHING]], np.int32)
    assert score_places(system, ["u", "v"], [row(), row()], asked).tolist() == [[1, 0], [1, -np.inf]]


def test_validation_ranks_what_the_protocol_ranks() -> None:
    data = again(repeats=True)
    newest = [history[-1] for history in data.valid_histories]

    def finds_newest(histories: object, asked: object) -> np.ndarray:
        assert asked is None
        return np.eye(N_ITEMS)[newest]

    assert Validation(data)(finds_newest) == 1
    shown = dataclasses.replace(
        data,
        valid_candidates=np.array([[1, 2, NOTHING], [3, 4, 5]], np.int32),
        valid_histories=data.valid_histories[:2],
        valid_targets=np.array([1, 0]),
        rule=SplitRule(protocol="impressions"),
        given=True,
    )
    scores = lambda _, asked: asked.astype(np.float64)  # noqa: E731
    # The greater number of two wins, the least of three is last.
    assert Validation(shown)(scores) == pytest.approx((1 + 0.5) / 2)
