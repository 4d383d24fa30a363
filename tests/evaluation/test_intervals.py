import numpy as np
import pytest

from trsr.errors import DataError
from trsr.evaluation import statistics as intervals
from trsr.evaluation.statistics import bootstrap_means


def test_mean_is_the_plain_mean_and_lies_inside() -> None:
    [estimate] = bootstrap_means(np.array([[0.0], [1.0], [1.0], [0.0], [1.0]]), 500, 0)
    assert estimate.mean == pytest.approx(0.6)
    assert 0 <= estimate.low < 0.6 < estimate.high <= 1


def test_width_is_that_of_the_normal_approximation() -> None:
    values = (np.arange(2000) % 4 == 0).astype(float)[:, None]
    [estimate] = bootstrap_means(values, 2000, 0)
    half = 1.96 * np.sqrt(0.25 * 0.75 / 2000)
    assert estimate.low == pytest.approx(0.25 - half, abs=0.1 * half)
    assert estimate.high == pytest.approx(0.25 + half, abs=0.1 * half)


def test_one_user_has_no_width() -> None:
    [estimate] = bootstrap_means(np.array([[0.3]]), 100, 0)
    assert (estimate.low, estimate.high) == (pytest.approx(0.3), pytest.approx(0.3))


def test_same_seed_same_interval_and_other_seed_another() -> None:
    values = np.random.default_rng(0).random((50, 2))
    assert bootstrap_means(values, 100, 1) == bootstrap_means(values, 100, 1)
    assert bootstrap_means(values, 100, 1) != bootstrap_means(values, 100, 2)


def test_columns_share_the_resamples() -> None:
    values = np.random.default_rng(0).random((50, 1))
    first, second = bootstrap_means(np.hstack([values, 2 * values]), 100, 0)
    assert second.low == pytest.approx(2 * first.low)
    assert second.high == pytest.approx(2 * first.high)


def test_working_in_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random((40, 2))
    whole = bootstrap_means(values, 120, 3)
    monkeypatch.setattr(intervals, "_CELLS_A_BLOCK", 40 * 7)
    assert bootstrap_means(values, 120, 3) == whole


def test_no_users_are_refused() -> None:
    with pytest.raises(DataError, match="at least one user"):
        bootstrap_means(np.empty((0, 2)), 100, 0)
