"""The conditional logit: weights under which the targets win against their users' other candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]

PENALTIES: Final = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Strengths of the penalty that cross-validation chooses from, weakest first."""


def choice_losses(columns: _Floats, targets: _Ints, weights: _Floats) -> _Floats:
    """Compute each user's negative log-likelihood of the target among the candidates.

    Parameters
    ----------
    columns
        ``(n_users, n_candidates, n_columns)``.
    targets
        Place of the target among the candidates, ``(n_users,)``.
    weights
        ``(n_columns,)``.

    Returns
    -------
    numpy.ndarray
        ``(n_users,)``.
    """
    utilities = columns @ weights
    losses: _Floats = logsumexp(utilities, axis=1) - utilities[np.arange(len(targets)), targets]
    return losses


def fit_weights(
    columns: _Floats, targets: _Ints, penalty: float, rising: Sequence[bool] | None = None
) -> _Floats:
    """Find the weights of the least mean loss plus half the penalty times their squared length.

    The problem is convex, so that the answer depends on nothing but the data. Source: McFadden,
    Conditional logit analysis of qualitative choice behavior, 1974.

    Parameters
    ----------
    columns
        ``(n_users, n_candidates, n_columns)``.
    targets
        Place of the target among the candidates, ``(n_users,)``.
    penalty
        Strength of the ridge.
    rising
        Which weights must not be below 0; None for no rule.

    Returns
    -------
    numpy.ndarray
        ``(n_columns,)``.

    Examples
    --------
    >>> columns = np.array([[[1.0], [0.0]], [[1.0], [0.0]], [[0.0], [1.0]]])
    >>> weights = fit_weights(columns, np.array([0, 0, 0]), penalty=1e-6)
    >>> round(float(np.exp(weights[0])), 2)  # the odds of two to one
    2.0
    """
    own = columns[np.arange(len(targets)), targets]

    def loss(weights: _Floats) -> tuple[float, _Floats]:
        utilities = columns @ weights
        totals = logsumexp(utilities, axis=1, keepdims=True)
        chances = np.exp(utilities - totals)
        expected = np.einsum("uc,ucf->uf", chances, columns)
        value = float((totals[:, 0] - own @ weights).mean() + penalty / 2 * weights @ weights)
        return value, (expected - own).mean(axis=0) + penalty * weights

    bounds = [(0.0 if rises else None, None) for rises in rising or [False] * columns.shape[2]]
    weights: _Floats = minimize(
        loss,
        np.zeros(columns.shape[2]),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": 1000},
    ).x
    return weights


def choose_penalty(
    columns: _Floats, targets: _Ints, folds: _Ints, rising: Sequence[bool] | None = None
) -> float:
    """Choose the penalty under which weights do best on the folds that they were not fitted on.

    Parameters
    ----------
    columns, targets, rising
        As `fit_weights` takes them.
    folds
        Fold of each row, ``(n_users,)``; all rows of one user must be in one fold.
    """
    losses = [
        np.concatenate(
            [
                choice_losses(
                    columns[folds == fold],
                    targets[folds == fold],
                    fit_weights(columns[folds != fold], targets[folds != fold], penalty, rising),
                )
                for fold in np.unique(folds)
            ]
        ).mean()
        for penalty in PENALTIES
    ]
    return float(PENALTIES[int(np.argmin(losses))])
