"""From a utility to the probability of being the next item."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

_Floats = NDArray[np.float64]
Kind = Literal["platt", "isotonic"]
KINDS: Final[tuple[Kind, ...]] = ("platt", "isotonic")

_LEAST_SLOPE: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Calibration:
    """A rising line of straight pieces from utilities to log-odds; it never changes an order.

    Parameters
    ----------
    kind
        ``platt``: one straight line; ``isotonic``: as many pieces as the data asks for.
    utilities, log_odds
        Where the pieces meet, both rising; two points make one line.
    slope
        Rise of the log-odds a unit of utility before the first and after the last point.
    """

    kind: Kind
    utilities: tuple[float, ...]
    log_odds: tuple[float, ...]
    slope: float

    def __call__(self, utilities: _Floats) -> _Floats:
        """Return probabilities, of the same shape.

        Examples
        --------
        >>> Calibration("platt", (0.0, 1.0), (0.0, 1.0), 1.0)(np.array([-800.0, 0.0])).round(3).tolist()
        [0.0, 0.5]
        """
        x, y = np.array(self.utilities), np.array(self.log_odds)
        within = np.interp(utilities, x, y)
        beyond = np.minimum(utilities - x[0], 0) + np.maximum(utilities - x[-1], 0)
        chances: _Floats = expit(within + self.slope * beyond)
        return chances


def fit_calibration(kind: Kind, utilities: _Floats, is_target: NDArray[np.bool_]) -> Calibration:
    """Learn how often candidates of a utility are the target.

    Both are of all candidates, ``(n,)``, the utilities from weights that were learnt without their users.
    Sources: Platt, Probabilistic outputs for support vector machines, 1999; Zadrozny and Elkan, Transforming
    classifier scores into accurate multiclass probability estimates, KDD 2002.
    """
    slope, start = _platt(utilities, is_target)
    ends = np.array([utilities.min(), max(utilities.max(), utilities.min() + 1.0)])
    if kind == "platt":
        x, y = ends, slope * ends + start
    else:
        x, y = _steps(utilities, is_target)
        if len(x) < 2:
            x, y = ends, slope * ends + start
    return Calibration(kind, tuple(map(float, x)), tuple(map(float, y)), slope)


def choose_kind(utilities: _Floats, is_target: NDArray[np.bool_], folds: NDArray[np.int64]) -> Kind:
    """Choose the form that is surer of the truth on users whom it was not learnt from.

    Utilities and targets are ``(n_users, n_candidates)``; `folds` has the fold of each row, ``(n_users,)``.
    """
    losses = {}
    for kind in KINDS:
        losses[kind] = 0.0
        for fold in np.unique(folds):
            kept, held = folds != fold, folds == fold
            chances = fit_calibration(kind, utilities[kept].ravel(), is_target[kept].ravel())(utilities[held])
            right = np.where(is_target[held], chances, 1 - chances)
            losses[kind] -= float(np.log(np.maximum(right, 1e-12)).sum())
    return min(KINDS, key=lambda kind: losses[kind])


def _platt(utilities: _Floats, is_target: NDArray[np.bool_]) -> tuple[float, float]:
    def loss(line: _Floats) -> tuple[float, _Floats]:
        odds = line[0] * utilities + line[1]
        wrong = expit(odds) - is_target
        value = np.logaddexp(0, odds) - is_target * odds
        return float(value.mean()), np.array([(wrong * utilities).mean(), wrong.mean()])

    start = np.array([1.0, logit(np.clip(is_target.mean(), 1e-6, 1 - 1e-6)) - utilities.mean()])
    bounds = [(_LEAST_SLOPE, None), (None, None)]
    from scipy.optimize import minimize  # noqa: PLC0415  who only scores needs no way of learning

    slope, level = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return float(slope), float(level)


def _steps(utilities: _Floats, is_target: NDArray[np.bool_]) -> tuple[_Floats, _Floats]:
    """Join the middles of the steps of an isotonic regression; each is drawn to the mean by one candidate."""
    from sklearn.isotonic import IsotonicRegression  # noqa: PLC0415  who only scores needs no way of learning

    rates = IsotonicRegression().fit_transform(utilities, is_target.astype(np.float64))
    _, step, sizes = np.unique(rates, return_inverse=True, return_counts=True)
    middles = np.bincount(step, utilities) / sizes
    smoothed = (np.bincount(step, is_target) + is_target.mean()) / (sizes + 1)
    rising = smoothed > np.concatenate([[0.0], np.maximum.accumulate(smoothed)[:-1]])
    return middles[rising], logit(smoothed[rising])
