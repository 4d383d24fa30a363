import numpy as np
import pytest

from trsr.fusion.features import Evidence, Scale, column_names, columns, learn_scales

COUNTS = np.array([[3, 0, 1]])
EVENLY = np.array([False])
SCORES = {
    "language_model": np.array([[0.5, 0.9, 0.1]]),
    "sasrec": np.array([[2.0, 77.0, 4.0]]),
    "popularity": np.array([[3.0, 0.0, 1.0]]),
}


def test_columns_by_hand() -> None:
    scales = {"language_model": Scale(0, 1), "sasrec": Scale(3, 0.5), "popularity": Scale(0, 1)}
    twice = Evidence(
        {name: np.concatenate([table, table]) for name, table in SCORES.items()},
        np.concatenate([COUNTS, COUNTS]),
        np.array([False, True]),
    )
    evenly, popular = columns(twice, scales)
    by_name = dict(zip(column_names(scales), evenly.T.tolist(), strict=True))
    assert by_name == {
        "language_model": pytest.approx([0, np.log(9), -np.log(9)]),
        "language_model, cold item": pytest.approx([0, np.log(9), 0]),
        "sasrec": [-2, 0, 2],
        "popularity": pytest.approx([np.log(4), 0, np.log(2)]),
        "popularity, drawn by it": [0, 0, 0],
        "cold item": [0, 1, 0],
    }
    told = dict(zip(column_names(scales), popular.T.tolist(), strict=True))
    assert told["popularity, drawn by it"] == told["popularity"] == by_name["popularity"]


def test_scales_of_behaviour_are_learnt_from_items_that_training_saw() -> None:
    scales = learn_scales(Evidence(SCORES, COUNTS, EVENLY))
    assert scales["sasrec"] == Scale(3, 1)
    assert scales["language_model"].centre == pytest.approx(0)


def test_what_a_behaviour_system_says_of_a_cold_item_changes_nothing() -> None:
    other = SCORES | {"sasrec": np.array([[2.0, -1e9, 4.0]])}
    first, second = Evidence(SCORES, COUNTS, EVENLY), Evidence(other, COUNTS, EVENLY)
    assert np.array_equal(columns(first, learn_scales(first)), columns(second, learn_scales(second)))


def test_certainty_and_constant_scores_stay_finite() -> None:
    sure = {
        "language_model": np.array([[0.0, 1.0, 1.0]]),
        "bm25": np.zeros((1, 3)),
        "tfidf": np.zeros((1, 3)),
    }
    evidence = Evidence(sure, np.zeros((1, 3), np.int64), EVENLY)
    assert np.isfinite(columns(evidence, learn_scales(evidence))).all()


def test_what_a_candidate_is_worth_does_not_depend_on_the_others() -> None:
    together = Evidence(SCORES, COUNTS, EVENLY)
    scales = learn_scales(together)
    alone = Evidence({name: table[:, :1] for name, table in SCORES.items()}, COUNTS[:, :1], EVENLY)
    assert np.array_equal(
        columns(alone, scales)[0, 0], columns(Evidence(SCORES, COUNTS, EVENLY), scales)[0, 0]
    )
