import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray
from planted_order import planted

from trsr.baselines.base import Places, TrainingData
from trsr.baselines.validation import Validation

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
