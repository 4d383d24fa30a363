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
from pydantic import Field, model_validator

from trsr.baselines.base import Baseline, open_baseline, score_catalogue
from trsr.baselines.simple import Popularity
from trsr.baselines.training_data import Places, TrainingData
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


class Joined(Baseline):
    """Systems that were trained one by one, and what validation users choose for joining them."""

    stochastic = True

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._systems = [open_baseline(name, self.seed) for name in self.parts]

    @property
    @abstractmethod
    def parts(self) -> tuple[BaselineName, ...]:
        """Names of the systems."""

    @abstractmethod
    def join(self, systems: Sequence[Baseline], data: TrainingData) -> None:
        """Take systems that have learnt from `data`, and choose by its validation users.

        Raises `DataError` when there are none, and what is to be chosen is not given.
        """

    def fit(self, data: TrainingData) -> None:
        """Train the systems, and choose; see `Baseline`."""
        for system in self._systems:
            system.fit(data)
        self.join(self._systems, data)

    def save(self, folder: Path) -> None:
        """Write what was chosen, and every system in a folder of its own; see `Baseline`."""
        super().save(folder)
        for number, system in enumerate(self._systems):
            system.save(folder / f"system-{number}")

    def restore(self, folder: Path) -> None:
        """Read what `save` wrote; see `Baseline`."""
        super().restore(folder)
        for number, system in enumerate(self._systems):
            system.restore(folder / f"system-{number}")

    def _note(self, chosen: str, tried: str, validation: Validation) -> None:
        """Tell what was chosen, and what the systems tell."""
        self.notes = (f"{chosen}, by NDCG@10 of {validation.rows} ({tried})",)
        for name, system in zip(self.parts, self._systems, strict=True):
            self.notes += tuple(f"{name}: {note}" for note in system.notes)


class HybridSettings(Section):
    """Which systems, and what is chosen by validation users unless it is given."""

    first: BaselineName = "llmseqsim"
    """The system whose list goes first."""
    threshold: float | None = None
    """Null: chosen by the validation users."""


class Hybrid(Joined):
    """Systems that were trained one by one, and a threshold that validation users choose.

    A pair's score is minus its place in the joined list of the whole catalogue, so that every question ranks
    the catalogue by both systems.
    """

    Settings: ClassVar[type[Section]] = HybridSettings
    learnt = ("_threshold", "_counts", "notes")

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._threshold = math.nan
        self._counts = np.empty(0, np.int64)

    @property
    def parts(self) -> tuple[BaselineName, ...]:
        """Names of the systems."""
        named = (self.settings.first, getattr(self.settings, "second", None))
        return tuple(name for name in named if name is not None)

    def join(self, systems: Sequence[Baseline], data: TrainingData) -> None:
        """Choose the threshold; see `Joined`."""
        self._systems, self._counts = list(systems), data.counts
        if self.settings.threshold is not None:
            self._threshold = float(self.settings.threshold)
            return
        if not data.valid_histories:
            message = f"{self.kind()} chooses its threshold by validation users, and there are none; give one"
            raise DataError(message)
        validation = Validation(data)
        found = self._evidence(validation.users, validation.histories, validation.offered)
        figures = {
            threshold: validation.measure(self.order(found, threshold)) for threshold in self.choices(found)
        }
        self._threshold = max(figures, key=lambda threshold: figures[threshold])
        tried = ", ".join(f"{threshold:.3g}: {figure:.4f}" for threshold, figure in figures.items())
        self._note(f"threshold {self._threshold:.3g}", tried, validation)

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


class MixSettings(Section):
    """Which systems, and their weights, which validation users choose unless they are given."""

    systems: tuple[BaselineName, ...] = Field(
        (
            "tfidf(decay=0.7)",
            "tfidf(decay=0.7, title=True)",
            "itemknn(decay=0.7, window=3, back_off=0.0)",
            "popularity",
        ),
        min_length=1,
    )
    """Systems that are added up, each by how far it puts an item above its mean over the catalogue, in
    standard deviations of the user's scores; popularity as the logarithm of its count."""
    weights: tuple[float, ...] | None = None
    """One a system. Null: chosen by validation users, with the first at 1."""
    penalty: float | None = None
    """What an item of the history loses: whether people take things again is for the data to say. Null:
    chosen by validation users."""

    @model_validator(mode="after")
    def _one_weight_a_system(self) -> MixSettings:
        if self.weights is not None and len(self.weights) != len(self.systems):
            message = f"weights must be one a system, {len(self.systems)} here, got {len(self.weights)}"
            raise ValueError(message)
        return self


_WEIGHTS: Final = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 5.0)
_PENALTIES: Final = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 12.0, 20.0)
_PASSES: Final = 4


class Mix(Joined):
    """A weighted sum of systems, less a penalty for what the user has taken already.

    Each weight in turn, and the penalty, takes the value that is best for the validation users while the
    others stay, until none changes.
    """

    label = "Mix"
    description = "A weighted sum of simple systems, with a penalty for items of the history."
    Settings: ClassVar[type[Section]] = MixSettings
    learnt = ("_weights", "_n_items", "notes")

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._weights: list[float] = []
        self._n_items = 0

    @property
    def parts(self) -> tuple[BaselineName, ...]:
        """Names of the systems."""
        return tuple(self.settings.systems)

    def join(self, systems: Sequence[Baseline], data: TrainingData) -> None:
        """Choose the weights and the penalty; see `Joined`."""
        self._systems = list(systems)
        given = self.settings.weights
        self._n_items = data.items.height
        self._weights = [*(given or [1.0] * len(systems)), self.settings.penalty or 0.0]
        free = [] if given is not None else list(range(1, len(systems)))
        free += [] if self.settings.penalty is not None else [len(systems)]
        if not free:
            return
        if not data.valid_histories:
            message = (
                "mix chooses its weights by validation users, and there are none; give weights and penalty"
            )
            raise DataError(message)
        validation = Validation(data)
        columns = self._columns(validation.users, validation.histories, validation.offered)
        figure = self._climb(columns, free, validation)
        told = ", ".join(
            f"{name} {weight:g}" for name, weight in zip(self.parts, self._weights, strict=False)
        )
        self._note(f"weights {told}, penalty {self._weights[-1]:g}", f"{figure:.4f}", validation)

    def score(
        self, users: Sequence[str], histories: Sequence[Places], candidates: Places | None = None
    ) -> _Floats:
        """Add up; see `Baseline`."""
        total: _Floats = np.tensordot(
            np.array(self._weights), self._columns(users, histories, candidates, np.float64), 1
        )
        return total

    def _climb(self, columns: NDArray[np.floating], free: Sequence[int], validation: Validation) -> float:
        """Set each weight in turn to the best of its values; return the figure that is reached."""
        best = -math.inf
        for _ in range(_PASSES):
            before = list(self._weights)
            for place in free:
                rest = np.tensordot(np.array(self._weights, columns.dtype), columns, 1)
                rest -= columns.dtype.type(self._weights[place]) * columns[place]
                values = _PENALTIES if place == len(self._systems) else _WEIGHTS
                tried = {
                    value: validation.measure(rest + columns.dtype.type(value) * columns[place])
                    for value in values
                }
                # Where several are as good, what stands there stays.
                top = max(tried.values())
                if top > best:
                    best, self._weights[place] = top, max(tried, key=lambda value: tried[value])
            if before == self._weights:
                break
        return best

    def _columns(
        self,
        users: Sequence[str],
        histories: Sequence[Places],
        candidates: Places | None,
        kind: type[np.floating] = np.float32,
    ) -> NDArray[np.floating]:
        """Give each system's standard scores, and last what the penalty is for, -1 in the history.

        They are ``(n_systems + 1, n_users, n_asked)``.
        """
        n_items = self._n_items
        n_asked = n_items if candidates is None else candidates.shape[1]
        columns = np.zeros((len(self._systems) + 1, len(users), n_asked), kind)
        for number, system in enumerate(self._systems):
            for part, table in score_catalogue(system, users, histories, n_items):
                scores = system.utilities(table) if isinstance(system, Popularity) else table
                spread = scores.std(axis=1, keepdims=True)
                scores = (scores - scores.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1.0)
                asked = scores if candidates is None else np.take_along_axis(scores, candidates[part], axis=1)
                columns[number, part] = asked
        for row, history in enumerate(histories):
            if candidates is None:
                columns[-1, row, history] = -1
            else:
                columns[-1, row] = -np.isin(candidates[row], history).astype(kind)
        return columns
