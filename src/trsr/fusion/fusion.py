"""A conditional logit over systems, and the calibration of its sums."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, logsumexp

from trsr.artifacts import write_json
from trsr.data.candidates import user_keys
from trsr.errors import ArtifactError, DataError
from trsr.fusion.features import (
    COLD,
    POPULAR_DRAW,
    REPEATED,
    TIMES,
    Evidence,
    Scale,
    Scales,
    column_names,
    columns,
    learn_scales,
)

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


_Ints = NDArray[np.int64]

PENALTIES: Final = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Strengths of the penalty that cross-validation chooses from, weakest first."""


def choice_losses(columns: _Floats, targets: _Ints, weights: _Floats) -> _Floats:
    """Compute each user's negative log-likelihood of the target among the candidates, ``(n_users,)``.

    `columns` are ``(n_users, n_candidates, n_columns)``, `weights` ``(n_columns,)``; `targets` has the
    target's place among the candidates, ``(n_users,)``.
    """
    utilities = columns @ weights
    losses: _Floats = logsumexp(utilities, axis=1) - utilities[np.arange(len(targets)), targets]
    return losses


def fit_weights(
    columns: _Floats, targets: _Ints, penalty: float, rising: Sequence[bool] | None = None
) -> _Floats:
    """Find the weights of the least mean loss plus half the penalty times their squared length.

    The problem is convex, so that the answer depends on nothing but the data. Shapes are those of
    `choice_losses`; `rising` says which weights must not be below 0, None for no rule. Source: McFadden,
    Conditional logit analysis of qualitative choice behavior, 1974.

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
    from scipy.optimize import minimize  # noqa: PLC0415  who only scores needs no way of learning

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

    `folds` has the fold of each row, ``(n_users,)``; all rows of one user must be in one fold. The rest is as
    in `fit_weights`.
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


_FORMAT: Final = 1
_FOLDS: Final = 5
_LEAST_FITTED: Final = 10
"""Fewer users are too few for a cross-validation of weights."""
LEAST_USERS: Final = 13
"""Fewer users leave too few to learn from when each fold is scored by what the others say."""
_SEED: Final = 0
# A system may say nothing, but never the opposite of what it means. Popularity may: the lists that are
# learnt from hold popular negatives, too, and other systems know of popularity.
_FREE: Final = ("popularity", POPULAR_DRAW, COLD, REPEATED, TIMES)


@dataclass(frozen=True, slots=True)
class Fusion:
    """Learnt weights and the way from their sum to a probability.

    Parameters
    ----------
    scales
        Every system's scale, in the order of the columns.
    weights
        Name of the column to its weight; columns have spread 1, so that weights can be compared.
    calibration
        From the weighted sum to p(next item).
    penalty
        Strength of the ridge that cross-validation chose.
    users
        How many users it was learnt from.
    """

    scales: Scales
    weights: dict[str, float]
    calibration: Calibration
    penalty: float
    users: int

    @property
    def systems(self) -> tuple[str, ...]:
        """Names of the systems whose scores it joins."""
        return tuple(self.scales)

    def score(self, evidence: Evidence) -> NDArray[np.float64]:
        """Return p(next item) of every candidate.

        A pair's probability depends on its own evidence, and on no other pair. It is that of candidates as
        the fusion was learnt from: in a list of 21, the mean is about 1 in 21.

        Parameters
        ----------
        evidence
            Scores of all `systems`.

        Returns
        -------
        numpy.ndarray
            ``(n_users, n_candidates)``.

        Raises
        ------
        DataError
            When a system has no scores.
        """
        return self.calibration(self._weighted(evidence).sum(axis=-1))

    def terms(self, evidence: Evidence) -> dict[str, NDArray[np.float64]]:
        """Return what every column adds to the sum that the score is made of, ``(n_users, n_candidates)``."""
        return dict(zip(self.weights, np.moveaxis(self._weighted(evidence), -1, 0), strict=True))

    def _weighted(self, evidence: Evidence) -> NDArray[np.float64]:
        missing = [name for name in self.systems if name not in evidence.scores]
        if missing:
            message = f"the fused ranker needs scores of {', '.join(self.systems)}, got none of {missing[0]}"
            raise DataError(message)
        # A product of matrices would round equal evidence differently at different places, and break ties.
        weighted: NDArray[np.float64] = columns(evidence, self.scales) * np.array([*self.weights.values()])
        return weighted

    def save(self, path: Path) -> None:
        """Write it as JSON that a person can read."""
        write_json({"format": _FORMAT, **asdict(self), "systems": list(self.systems)}, path)

    @classmethod
    def load(cls, path: Path) -> Fusion:
        """Read what `save` wrote.

        Raises
        ------
        ArtifactError
            When the file is missing, damaged or of another format.
        """
        try:
            card = json.loads(path.read_text(encoding="utf-8"))
            if card["format"] != _FORMAT:
                message = f"format must be {_FORMAT}, got {card['format']!r}"
                raise ValueError(message)
            line = card["calibration"]
            systems = card["systems"]
            return cls(
                scales={name: Scale(**card["scales"][name]) for name in systems},
                weights={
                    name: float(card["weights"][name])
                    for name in column_names(systems, retrieved=REPEATED in card["weights"])
                },
                calibration=Calibration(
                    line["kind"], tuple(line["utilities"]), tuple(line["log_odds"]), line["slope"]
                ),
                penalty=card["penalty"],
                users=card["users"],
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            message = f"{path}: not a fused ranker ({error!r}); run `trsr evaluate` on this run folder again"
            raise ArtifactError(message) from error


def fit_fusion(evidence: Evidence, targets: NDArray[np.int64], users: Sequence[str]) -> Fusion:
    """Learn weights under which the targets win, and how sure their sum is.

    The penalty is chosen by cross-validation over users. The calibration is learnt from sums whose weights
    never saw the user, so that it isn't too sure of itself. The fusion is the same, whatever the order of
    rows and candidates, up to rounding.

    Parameters
    ----------
    evidence
        Scores for candidates of validation users; give the lists of several samplers one below the other
        to learn from all of them.
    targets
        Place of the target among the candidates, ``(n_rows,)``; -1 where it isn't among them. Such rows
        teach no weights, but how sure one may be that the next item is in the list at all.
    users
        Whose row each is, ``(n_rows,)``; rows of one user stay together in cross-validation.

    Raises
    ------
    DataError
        When there are fewer users, with a target in the list, than a cross-validation needs.
    """
    return fit_held_out(evidence, targets, users)[0]


def fit_held_out(
    evidence: Evidence, targets: NDArray[np.int64], users: Sequence[str]
) -> tuple[Fusion, _Floats]:
    """Do what `fit_fusion` does; also give each row's sums by weights that never saw its user.

    The sums are ``(n_rows, n_candidates)``.
    """
    found = targets >= 0
    _folds([user for user, hit in zip(users, found, strict=True) if hit])  # enough of them?
    folds = _folds(users)
    scales = learn_scales(evidence)
    table = columns(evidence, scales)
    names = column_names(scales, retrieved=evidence.repeats is not None)
    rising = [name not in _FREE for name in names]
    penalty = choose_penalty(table[found], targets[found], folds[found], rising)
    utilities = np.empty(targets.shape + table.shape[1:2])
    for fold in np.unique(folds):
        held, others = folds == fold, (folds != fold) & found
        utilities[held] = table[held] @ fit_weights(table[others], targets[others], penalty, rising)
    is_target = np.arange(table.shape[1]) == targets[:, None]
    kind = choose_kind(utilities, is_target, folds)
    weights = fit_weights(table[found], targets[found], penalty, rising)
    fusion = Fusion(
        scales=scales,
        weights=dict(zip(names, map(float, weights), strict=True)),
        calibration=fit_calibration(kind, utilities.ravel(), is_target.ravel()),
        penalty=penalty,
        users=len(set(users)),
    )
    return fusion, utilities


def cross_fit(evidence: Evidence, targets: NDArray[np.int64], users: Sequence[str]) -> NDArray[np.float64]:
    """Score every user by a fusion that was learnt without the user, from the first choice to the last.

    Takes what `fit_fusion` takes; the scores are ``(n_rows, n_candidates)``.
    """
    folds = _folds(users)
    chances = np.empty(evidence.counts.shape)
    for fold in np.unique(folds):
        held = folds == fold
        known = [user for user, out in zip(users, held, strict=True) if not out]
        chances[held] = fit_fusion(evidence.rows(~held), targets[~held], known).score(evidence.rows(held))
    return chances


def too_few(users: int) -> str:
    """Say why there is no fused ranker where validation users are too few; empty where they are enough.

    Examples
    --------
    >>> too_few(12)
    '12 validation users are too few to learn from (13 at least; raise split.valid): no fused ranker'
    >>> too_few(13)
    ''
    """
    if users >= LEAST_USERS:
        return ""
    return (
        f"{users} validation users are too few to learn from ({LEAST_USERS} at least; raise split.valid): "
        "no fused ranker"
    )


def _folds(users: Sequence[str]) -> NDArray[np.int64]:
    """Put users into folds of one size, by their ids alone."""
    known = sorted(set(users))
    if len(known) < _LEAST_FITTED:
        message = (
            f"the fused ranker needs at least {_LEAST_FITTED} validation users, got {len(known)} with the "
            "target among the candidates; raise split.valid, or set fusion.companions to []"
        )
        raise DataError(message)
    order = np.argsort(user_keys(known, _SEED, "fusion folds"))
    fold = {known[place]: number % _FOLDS for number, place in enumerate(order)}
    return np.array([fold[user] for user in users], dtype=np.int64)
