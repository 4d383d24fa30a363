import numpy as np
import pytest
from scipy.special import expit

from trsr.fusion.fusion import KINDS, Calibration, choose_kind, fit_calibration


def outcomes(chances: np.ndarray, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(chances.shape) < chances


@pytest.mark.parametrize("kind", KINDS)
def test_chances_come_true(kind: str) -> None:
    utilities = np.random.default_rng(1).normal(size=40_000)
    truth = expit(2 * utilities - 2)
    found = fit_calibration(kind, utilities, outcomes(truth))
    assert np.abs(found(utilities) - truth).mean() < 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_never_changes_and_distinct_stay_distinct(kind: str) -> None:
    utilities = np.random.default_rng(1).normal(size=500)
    found = fit_calibration(kind, utilities, outcomes(expit(utilities - 2)))
    far = np.sort(np.concatenate([utilities, [-9, 9]]))
    assert (np.diff(found(far)) > 0).all()


def test_a_bent_truth_chooses_pieces_and_a_straight_one_the_line() -> None:
    utilities = np.random.default_rng(1).normal(size=(2000, 21))
    folds = np.arange(2000) % 5
    bent = outcomes(np.where(utilities > 0, 0.5, 0.01))
    assert choose_kind(utilities, bent, folds) == "isotonic"
    assert choose_kind(utilities, outcomes(expit(utilities - 3)), folds) == "platt"


@pytest.mark.parametrize("kind", KINDS)
def test_utilities_that_say_nothing_give_the_base_rate(kind: str) -> None:
    nothing = np.zeros(2100)
    found = fit_calibration(kind, nothing, np.arange(2100) % 21 == 0)
    assert found(nothing)[0] == pytest.approx(1 / 21, rel=0.02)


def test_beyond_the_data_the_line_goes_on() -> None:
    line = Calibration("isotonic", (0.0, 1.0), (-1.0, 1.0), slope=0.5)
    assert line(np.array([-2.0, 0.5, 3.0])) == pytest.approx(expit(np.array([-2.0, 0.0, 2.0])))
