"""Two systems as one: lists joined by rank or confidence, or one of them taken by popularity.

Source: Boz et al., Improving sequential recommendations with LLMs, 2024 (arXiv 2402.01339). What they call a
threshold is chosen here by the validation users alone, on systems that never saw them in training.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from trsr.baselines.base import Baseline, Places, TrainingData, open_baseline, score_catalogue
from trsr.baselines.validation import Validation
from trsr.config.evaluation import BaselineName
from trsr.config.section import Section
from trsr.errors import DataError

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where the systems put items that are asked about, each in its list of the whole catalogue.

    Parameters
    ----------
    ranks
        Of each system's list without the history, ``(n_users, n_asked)``; see `places_outside`.
    scores
        The first system's scores, of the same form.
    best
        Its highest score outside the history, ``(n_users,)``.
    counts
        How often training saw what is asked about, ``(n_users, n_asked)``.
    newest
        How often training saw the newest item of the history, ``(n_users, 1)``; infinite without a history.
    """

    ranks: tuple[_Floats, ...]
    scores: _Floats
    best: _Floats
    counts: _Floats
    newest: _Floats


class HybridSettings(Section):
    """Which systems, and what is chosen by validation users unless it is given."""

    first: BaselineName = "llmseqsim"
    """The system whose list goes first."""
    threshold: float | None = None
    """Null: chosen by the validation users."""


class Hybrid(Baseline):
    """Systems that were trained one by one, and a threshold that validation users choose.

    A pair's score is minus its place in the joined list of the whole catalogue, so that every question ranks
    the catalogue by both systems.
    """

    stochastic = True
    Settings: ClassVar[type[Section]] = HybridSettings
    learnt = ("_threshold", "_counts", "notes")

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._systems = [open_baseline(name, self.seed) for name in self.parts]
        self._threshold = math.nan
        self._counts = np.empty(0, np.int64)

    @property
    def parts(self) -> tuple[BaselineName, ...]:
        """Names of the systems."""
        named = (self.settings.first, getattr(self.settings, "second", None))
        return tuple(name for name in named if name is not None)

    def fit(self, data: TrainingData) -> None:
        """Train the systems, and choose; see `Baseline`."""
        for system in self._systems:
            system.fit(data)
        self.join(self._systems, data)

    def join(self, systems: Sequence[Baseline], data: TrainingData) -> None:
        """Take systems that have learnt from `data`, and choose the threshold by its validation users.

        Raises `DataError` when there are none, and no threshold is given.
        """
        self._systems, self._counts = list(systems), data.counts
        if self.settings.threshold is not None:
            self._threshold = float(self.settings.threshold)
            return
        if not data.valid_histories:
            message = f"{self.kind()} chooses its threshold by validation users, and there are none; give one"
            raise DataError(message)
        validation = Validation(data)
        found = self._evidence(data.valid_users, validation.histories, validation.offered)
        figures = {
            threshold: validation.measure(self.order(found, threshold)) for threshold in self.choices(found)
        }
        self._threshold = max(figures, key=lambda threshold: figures[threshold])
        tried = ", ".join(f"{threshold:.3g}: {figure:.4f}" for threshold, figure in figures.items())
        chosen = f"threshold {self._threshold:.3g}, by NDCG@10 of {len(data.valid_histories):,}"
        self.notes = (f"{chosen} validation users ({tried})",)
        for name, system in zip(self.parts, systems, strict=True):
            self.notes += tuple(f"{name}: {note}" for note in system.notes)

    def score(
        self, users: Sequence[str], histories: Sequence[Places], candidates: Places | None = None
    ) -> _Floats:
        """Join the lists; see `Baseline`."""
        return self.order(self._evidence(users, histories, candidates), self._threshold)

    @staticmethod
    def utilities(scores: _Floats) -> _Floats:
        """Take the logarithm of places; see `Baseline`."""
        logarithms: _Floats = -np.log(-scores)
        return logarithms

    def save(self, folder: Path) -> None:
        """Write the threshold, and every system in a folder of its own; see `Baseline`."""
        super().save(folder)
        for number, system in enumerate(self._systems):
            system.save(folder / f"system-{number}")

    def restore(self, folder: Path) -> None:
        """Read what `save` wrote; see `Baseline`."""
        super().restore(folder)
        for number, system in enumerate(self._systems):
            system.restore(folder / f"system-{number}")

    @abstractmethod
    def choices(self, found: Evidence) -> Sequence[float]:
        """Return the thresholds to choose from; the first of equally good ones is taken."""

    @abstractmethod
    def order(self, found: Evidence, threshold: float) -> _Floats:
        """Return minus the places in the joined list, ``(n_users, n_asked)``."""

    def _evidence(
        self, users: Sequence[str], histories: Sequence[Places], candidates: Places | None
    ) -> Evidence:
        n_items = len(self._counts)
        asked = np.tile(np.arange(n_items), (len(users), 1)) if candidates is None else candidates
        ranks = [np.empty(asked.shape) for _ in self._systems]
        scores, best = np.empty(asked.shape), np.empty(len(users))
        for number, system in enumerate(self._systems):
            for part, table in score_catalogue(system, users, histories, n_items):
                for row, own in enumerate(table, part.start):
                    ranks[number][row] = places_outside(own, histories[row], asked[row])
                    if number == 0:
                        scores[row] = own[asked[row]]
                        best[row] = np.delete(own, histories[row]).max(initial=-np.inf)
        newest = [self._counts[history[-1]] if len(history) else np.inf for history in histories]
        return Evidence(
            tuple(ranks), scores, best, self._counts[asked].astype(np.float64), np.array(newest)[:, None]
        )

    def _frequency(self, quantile: float) -> float:
        """Return the count below which this share of the items that training saw are."""
        return float(np.quantile(self._counts[self._counts > 0], quantile))


def places_outside(scores: _Floats, history: Places, asked: Places) -> _Floats:
    """Place items in the list of all items but those of the history, 1 for the best, ties the mean.

    An item of the history stands between those that it is between, at half a place: whether items are taken
    again is for whoever asks to say, and no list may make a target of that kind impossible to find.

    Examples
    --------
    >>> places_outside(np.array([0.9, 0.5, 0.7, 0.5]), np.array([0]), np.array([0, 1, 2, 3])).tolist()
    [0.5, 2.5, 1.0, 2.5]
    """
    listed = np.sort(np.delete(scores, history))
    own = scores[asked]
    above = len(listed) - np.searchsorted(listed, own, side="right")
    tied = len(listed) - above - np.searchsorted(listed, own, side="left")
    places: _Floats = above + (tied + 1) / 2
    return places


class EnsembleSettings(HybridSettings):
    """Two systems, and what decides how many of the first one's items go before the second's list."""

    second: BaselineName = "llm2sasrec"
    """The system whose list follows."""
    by: Literal["rank", "confidence"] = "rank"
    """`rank`: the first `threshold` items. `confidence`: those that score `threshold` at least."""


_HEADS: Final = (0, 1, 2, 3, 4, 5, 10, 20)
_SHARES: Final = (1.0, 0.9, 0.75, 0.5, 0.25, 0.1, 0.0)


class Ensemble(Hybrid):
    """The best items of one list, by rank or by confidence, before another list.

    The authors' cut-offs by confidence, .8 to .99, are those of one encoder; here they are quantiles of the
    best scores that the first system gives validation users.
    """

    label = "Ensemble"
    description = "The surest items of one system stand before the list of another."
    Settings = EnsembleSettings

    def choices(self, found: Evidence) -> Sequence[float]:
        """Return cut-offs, the first of which leaves the second list as it is; see `Hybrid`."""
        if self.settings.by == "rank":
            return _HEADS
        return [math.inf, *(float(np.quantile(found.best, share)) for share in _SHARES)]

    def order(self, found: Evidence, threshold: float) -> _Floats:
        """Put the head of the first list before the second; see `Hybrid`."""
        first, second = found.ranks
        ahead = first <= threshold if self.settings.by == "rank" else found.scores >= threshold
        return -np.where(ahead, first, len(self._counts) + second)


class PopularitySwitchSettings(HybridSettings):
    """Two systems, and the quantile of popularity from which on the second is asked."""

    second: BaselineName = "llm2sasrec"
    """The system that is asked where the newest item of the history is popular."""
    threshold: float | None = Field(None, ge=0)
    """Quantile of the counts of items that training saw; above 1 the first system is always asked. Null:
    chosen by the validation users."""


_QUANTILES: Final = (0.0, 0.25, 0.5, 0.75)
_NEVER: Final = 2.0


class PopularitySwitch(Hybrid):
    """One system where the newest item of the history is rare, another where it is popular."""

    label = "Switch by popularity"
    description = "One system answers where the newest item is rare, another where it is popular."
    Settings = PopularitySwitchSettings

    def choices(self, found: Evidence) -> Sequence[float]:
        """Return quantiles; the first asks the second system alone, the last the first one; see `Hybrid`."""
        return (*_QUANTILES, _NEVER)

    def order(self, found: Evidence, threshold: float) -> _Floats:
        """Take the list of one system for each user; see `Hybrid`."""
        least = self._frequency(threshold) if threshold <= 1 else np.inf
        popular = found.newest >= least if threshold > 0 else np.ones_like(found.newest, dtype=bool)
        return -np.where(popular, found.ranks[1], found.ranks[0])


class FrequentFirstSettings(HybridSettings):
    """A system, and the quantile of popularity below which its items go behind."""

    threshold: float | None = Field(None, ge=0, le=1)
    """Quantile of the counts of items that training saw. Null: chosen by the validation users."""
    among: int = Field(100, ge=1)
    """Best items that are ordered so."""


class FrequentFirst(Hybrid):
    """Of a system's best items, the popular ones go before the rare ones."""

    label = "Popular ones first"
    description = "Of a system's best hundred items, rare ones go behind the others."
    Settings = FrequentFirstSettings

    def choices(self, found: Evidence) -> Sequence[float]:
        """Return quantiles, the first of which changes next to nothing; see `Hybrid`."""
        return _QUANTILES

    def order(self, found: Evidence, threshold: float) -> _Floats:
        """Move rare items behind the others of the best; see `Hybrid`."""
        [ranks] = found.ranks
        rare, among = found.counts < self._frequency(threshold), self.settings.among
        return -np.where(ranks > among, 2 * among + ranks, np.where(rare, among + ranks, ranks))
