"""What the fused ranker knows about candidates, and how it becomes columns of numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from trsr.baselines.base import ReadsText, baseline_class

LANGUAGE_MODEL: Final = "language_model"
"""Name of the language model among the systems; its scores are p(yes)."""

COLD: Final = "cold item"
"""Column: 1 for an item that training never saw."""

POPULAR_DRAW: Final = "popularity, drawn by it"
"""Column: popularity, where the candidates are said to have been drawn in proportion to it."""

REPEATED: Final = "in the history"
"""Column: 1 for an item that the user has taken before. Its weight is what a repeat loses or gains."""

TIMES: Final = "in the history, times"
"""Column: the logarithm of how often the user has taken it; 0 for once, as for never."""

_SMALLEST_CHANCE: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Evidence:
    """Scores of several systems for the same candidates.

    Parameters
    ----------
    scores
        Name of the system to its scores, each ``(n_users, n_candidates)``; that of the language
        model is p(yes). A score that a behaviour system can't give for an item that training never saw
        may be any number: it is not used.
    counts
        How often training saw each candidate, ``(n_users, n_candidates)``.
    drawn_by_popularity
        Whether each user's candidates were drawn in proportion to popularity, ``(n_users,)``: a fact about
        how the question was put, known to whoever puts it; never guessed from the candidates.
    repeats
        Of candidates that were retrieved from the whole catalogue: how often the user has taken each,
        ``(n_users, n_candidates)``. None for candidates that were drawn: those exclude the history, so that a
        repeat among them would be known for the target.
    """

    scores: Mapping[str, NDArray[np.float64]]
    counts: NDArray[np.int64]
    drawn_by_popularity: NDArray[np.bool_]
    repeats: NDArray[np.int64] | None = None

    def rows(self, chosen: NDArray[np.bool_]) -> Evidence:
        """Take some users."""
        return Evidence(
            {name: table[chosen] for name, table in self.scores.items()},
            self.counts[chosen],
            self.drawn_by_popularity[chosen],
            None if self.repeats is None else self.repeats[chosen],
        )


def joined(parts: Sequence[Evidence]) -> Evidence:
    """Put the rows of several lists of candidates one below the other."""
    first = parts[0]
    return Evidence(
        {name: np.concatenate([part.scores[name] for part in parts]) for name in first.scores},
        np.concatenate([part.counts for part in parts]),
        np.concatenate([part.drawn_by_popularity for part in parts]),
        None
        if first.repeats is None
        else np.concatenate([part.repeats for part in parts if part.repeats is not None]),
    )


@dataclass(frozen=True, slots=True)
class Scale:
    """Mean and standard deviation of a system's readings, over the candidates that it was learnt from."""

    centre: float
    spread: float


Scales = Mapping[str, Scale]
"""The scale of every system, in the order of the columns."""


def learn_scales(evidence: Evidence) -> Scales:
    """Measure every system's readings: of behaviour systems over items that training saw."""
    seen = evidence.counts > 0
    systems = {}
    for name, table in evidence.scores.items():
        values = _read(name, table)
        systems[name] = _measure(values if _reads_text(name) or not seen.any() else values[seen])
    return systems


def column_names(systems: Iterable[str], *, retrieved: bool = False) -> tuple[str, ...]:
    """Name the columns that `columns` makes; `retrieved` says whether the evidence tells of repeats.

    Examples
    --------
    >>> column_names(["language_model", "itemknn"])
    ('language_model', 'language_model, cold item', 'itemknn', 'cold item')
    >>> column_names(["popularity"], retrieved=True)
    ('popularity', 'cold item', 'in the history', 'in the history, times')
    """
    names: list[str] = []
    for name in systems:
        names.append(name)
        if _reads_text(name):
            names.append(f"{name}, {COLD}")
        if name == "popularity" and not retrieved:
            names.append(POPULAR_DRAW)
    return (*names, COLD, *((REPEATED, TIMES) if retrieved else ()))


def columns(evidence: Evidence, scales: Scales) -> NDArray[np.float64]:
    """Put evidence into the form in which it is weighted.

    Systems that read texts may weigh more where there is nothing else. Those that know behaviour alone are
    silent about an item that training never saw: their column is 0, which is their mean.

    How candidates were drawn decides what popularity says: among items drawn evenly, the popular one is the
    likelier target; among items drawn by popularity, that is why they are there. Popularity therefore has one
    weight for all candidates and another that is added where they were drawn by popularity. Nobody draws what
    is retrieved: there the history has columns in its place.

    The evidence has at least the systems of `scales`; see `learn_scales`. The columns are ``(n_users,
    n_candidates, n_columns)``, in the order of `column_names`.
    """
    cold = evidence.counts == 0
    made = []
    for name, scale in scales.items():
        values = (_read(name, evidence.scores[name]) - scale.centre) / scale.spread
        known = values if _reads_text(name) else np.where(cold, 0.0, values)
        made.append(known)
        if _reads_text(name):
            made.append(cold * values)
        if name == "popularity" and evidence.repeats is None:
            made.append(evidence.drawn_by_popularity[:, None] * values)
    made.append(cold.astype(np.float64))
    if evidence.repeats is not None:
        made += [(evidence.repeats > 0).astype(np.float64), np.log(np.maximum(evidence.repeats, 1))]
    return np.stack(made, axis=-1)


def _measure(values: NDArray[np.float64]) -> Scale:
    spread = float(values.std())
    return Scale(float(values.mean()), spread if spread > 0 else 1.0)


def _reads_text(name: str) -> bool:
    """Say whether what a system says about an item that nobody has taken yet has a meaning."""
    return name == LANGUAGE_MODEL or issubclass(baseline_class(name), ReadsText)


def _read(name: str, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bring scores to a scale on which differences add up."""
    if name != LANGUAGE_MODEL:
        return baseline_class(name).utilities(scores)
    read: NDArray[np.float64] = logit(np.clip(scores, _SMALLEST_CHANCE, 1 - _SMALLEST_CHANCE))
    return read
