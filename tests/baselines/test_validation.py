import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray
from planted_order import planted

from trsr.baselines.training_data import NOTHING, Places, TrainingData
from trsr.baselines.validation import Validation
from trsr.config.data import SplitRule

ROWS = (
    # history, candidates, column of the target
    ([9], [1, 4, 5], 0),
    ([1], [2, 4, 5], 0),
    ([8], [4, 5, 3], 2),
)


@pytest.fixture
def data() -> TrainingData:
    histories, candidates, columns = zip(*ROWS, strict=True)
    return dataclasses.replace(
        planted(users=2, valid_users=3),
        valid_histories=tuple(np.array(history, np.int32) for history in histories),
        valid_candidates=np.array(candidates, np.int32),
        valid_targets=np.array(columns),
    )


def by_number(histories: object, candidates: Places) -> NDArray[np.float64]:
    """Prefer items with high numbers."""
    return candidates.astype(np.float64)


def test_the_figure_by_hand(data: TrainingData) -> None:
    # Among candidates every target is last: rank 3, gain 1 / log2(4). Among the others' targets: 1 stands
    # behind 2 and 3; 2 behind 3, as its user took 1; 3 before 1 and 2.
    gains = [1 / np.log2(rank + 1) for rank in (3, 2, 1)]
    assert Validation(data)(by_number) == pytest.approx((0.5 + np.mean(gains)) / 2)


def test_given_candidates_alone_decide(data: TrainingData) -> None:
    assert Validation(dataclasses.replace(data, given=True))(by_number) == pytest.approx(0.5)


def test_a_constant_takes_the_mean_of_all_ranks(data: TrainingData) -> None:
    gains = [1.0, 1 / np.log2(3), 0.5]
    among_others = [np.mean(gains), np.mean(gains[:2]), np.mean(gains)]
    expected = (np.mean(gains) + np.mean(among_others)) / 2
    assert Validation(data)(lambda _, candidates: np.zeros(candidates.shape)) == pytest.approx(expected)


def test_of_impressions_all_that_was_clicked_counts_among_what_was_shown(data: TrainingData) -> None:
    shown = dataclasses.replace(
        data,
        valid_candidates=np.array([[1, 2, 3, 4], [5, 6, 2, NOTHING], [7, 8, NOTHING, NOTHING]], np.int32),
        valid_targets=np.array([0, 1, 0]),
        valid_positives=np.array([[1, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0]], bool),
        given=True,
    )
    # Clicked are ranks 2 and 4 of 4, then 1 of 3, then 2 of 2.
    first = (1 / np.log2(3) + 1 / np.log2(5)) / (1 + 1 / np.log2(3))
    validation = Validation(shown)
    assert validation.rows == "3 validation rows"
    assert validation(by_number) == pytest.approx(np.mean([first, 1, 1 / np.log2(3)]))
    # What stands where nothing was shown counts nowhere: it isn't above, and doesn't tie.
    highest = np.where(shown.valid_candidates == NOTHING, 9.0, shown.valid_candidates)
    assert validation.measure(highest) == validation(by_number)
    assert validation.measure(np.where(highest == 9.0, 7.0, highest)) == validation(by_number)


def test_many_impressions_are_measured_by_some_evenly_spaced(data: TrainingData) -> None:
    n_rows = 9001
    many = dataclasses.replace(
        data,
        valid_users=tuple(map(str, range(n_rows))),
        valid_histories=(np.array([1], np.int32),) * n_rows,
        valid_candidates=np.tile(np.array([[2, 3]], np.int32), (n_rows, 1)),
        valid_targets=np.zeros(n_rows, np.int64),
        valid_positives=np.tile(np.array([[True, False]]), (n_rows, 1)),
        given=True,
    )
    asked = Validation(many)
    assert (len(asked.users), asked.users[0], asked.users[-1]) == (4000, "0", "9000")
    assert asked.rows == "4,000 validation rows"
    assert asked(by_number) == pytest.approx(1 / np.log2(3))


def test_one_user_and_no_user(data: TrainingData) -> None:
    one = dataclasses.replace(
        data,
        valid_histories=data.valid_histories[:1],
        valid_candidates=data.valid_candidates[:1],
        valid_targets=data.valid_targets[:1],
    )
    assert Validation(one)(by_number) == pytest.approx((0.5 + 1.0) / 2)
    nobody = dataclasses.replace(
        data,
        valid_histories=(),
        valid_candidates=np.empty((0, 0), np.int32),
        valid_targets=np.empty(0, np.int64),
    )
    assert np.isnan(Validation(nobody)(by_number))


def test_rows_of_the_whole_catalogue_are_ranked_in_it_whoever_gave_their_candidates(
    data: TrainingData,
) -> None:
    whole = dataclasses.replace(data, rule=SplitRule(protocol="rolling"))
    n_items = data.items.height
    scores = lambda histories, _: np.tile(-np.arange(n_items, dtype=np.float64), (len(histories), 1))  # noqa: E731
    expected = Validation(whole)(scores)
    assert Validation(dataclasses.replace(whole, given=True))(scores) == expected > 0
