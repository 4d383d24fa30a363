"""What the ranker reads out of the whole catalogue, and how the fused ranker orders it.

Retrievers, systems that score every item, propose lists, which are joined by reciprocal rank; what the user
has taken before is proposed beside them. A fusion of the companions alone orders the proposals, the language
model reads the best of them, and a fusion with its p(yes) makes the order. Both fusions are learnt from
validation users' proposals, with the history as columns: whether people take things again is a weight, not a
rule.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.artifacts import write_json
from trsr.baselines.base import Baseline, ReadsText, score_places
from trsr.baselines.training_data import Places
from trsr.errors import ArtifactError, ConfigError, DataError
from trsr.fusion.features import LANGUAGE_MODEL, Evidence
from trsr.fusion.fusion import Fusion, fit_held_out
from trsr.fusion.vector_index import VectorIndex
from trsr.registry import path_name

_Floats = NDArray[np.float64]
_Bools = NDArray[np.bool_]

PROPOSED: Final = 3
"""So many times the items that the language model reads are proposed, and ordered by the companions alone."""
_NEWEST: Final = 50
"""Different items of the history that are proposed, the newest."""
_SMOOTHING: Final = 60
"""Of reciprocal ranks; the usual value."""
_CELLS_A_BLOCK: Final = 16_000_000
_FORMAT: Final = 1
RETRIEVAL: Final = "retrieval.json"
"""File in the fusion folder: who retrieves, and how much the language model reads."""
_FIRST_STAGE: Final = "first_stage.json"
_FULL: Final = "catalogue.json"
_INDEX: Final = "index.usearch"


@dataclass(frozen=True, slots=True)
class Proposed:
    """Items that were proposed to users, ``(n_users, n_proposed)``, and what the companions say of them."""

    places: Places
    evidence: Evidence

    def best(self, scores: _Floats, n: int) -> Proposed:
        """Keep each user's `n` items of the highest scores, best first; of equal ones the earlier."""
        order = np.argsort(-scores, axis=1, kind="stable")[:, :n]
        return self._each(lambda table: np.take_along_axis(table, order, axis=1))

    def first(self, n: int) -> Proposed:
        """Keep each user's first `n` items."""
        return self._each(lambda table: table[:, :n])

    def row(self, at: int) -> Proposed:
        """Keep one user."""
        return Proposed(self.places[[at]], self.evidence.rows(np.arange(len(self.places)) == at))

    def _each(self, taken: Callable[[NDArray[Any]], NDArray[Any]]) -> Proposed:
        told, repeats = self.evidence, self.evidence.repeats
        return Proposed(
            taken(self.places),
            Evidence(
                {name: taken(table) for name, table in told.scores.items()},
                taken(told.counts),
                told.drawn_by_popularity,
                None if repeats is None else taken(repeats),
            ),
        )

    def read(self, p_yes: _Floats) -> Evidence:
        """Add what the language model says, ``(n_users, n_proposed)``."""
        return replace(self.evidence, scores={LANGUAGE_MODEL: p_yes, **self.evidence.scores})


class Retriever:
    """Proposes items of the whole catalogue by several systems' lists and the history.

    Parameters
    ----------
    systems
        All companions by name, fitted.
    counts
        How often training saw each item, ``(n_items,)``; it orders what nobody proposed.
    names
        Who retrieves; others only say something of what was proposed.
    indexes
        Of those that search by an index: it. The others look at every item.
    """

    def __init__(
        self,
        systems: Mapping[str, Baseline],
        counts: NDArray[np.int64],
        names: Sequence[str],
        indexes: Mapping[str, VectorIndex] | None = None,
    ) -> None:
        self.systems = dict(systems)
        self.names = tuple(names)
        self._counts = counts
        self.indexes = dict(indexes or {})
        # Equal scores are put into an order by chance, not by places, which may tell how popular an item is.
        self._lot = np.random.default_rng(0).permutation(len(counts))

    @classmethod
    def indexed(
        cls, systems: Mapping[str, Baseline], counts: NDArray[np.int64], names: Sequence[str]
    ) -> Retriever:
        """Make one whose retrievers with vectors search by an index, which is built here.

        Raises `ConfigError` without the library, or where no retriever has vectors.
        """
        vectors = {name: systems[name].item_vectors() for name in names}
        indexes = {name: VectorIndex.build(table) for name, table in vectors.items() if table is not None}
        if not indexes:
            message = (
                f"fusion.index: none of {', '.join(names)} has vectors; set it to exact, or add a companion "
                "that has, such as sasrec_text or llmseqsim"
            )
            raise ConfigError(message)
        return cls(systems, counts, names, indexes)

    def propose(
        self,
        users: Sequence[str],
        histories: Sequence[Places],
        width: int,
        *,
        allowed: _Bools | None = None,
        repeats: bool = True,
        new_items: pl.DataFrame | None = None,
    ) -> Proposed:
        """Propose `width` items to every user, fewer where fewer are allowed.

        Parameters
        ----------
        histories
            What each user took, oldest first, as places in the catalogue and, behind it, in `new_items`.
        allowed
            Which items may be proposed, ``(n_items,)``; None for all.
        repeats
            Whether items of the history may.
        new_items
            Text fields of items of histories that the catalogue doesn't have.

        Raises
        ------
        DataError
            When nothing may be proposed.
        """
        size = max(1, _CELLS_A_BLOCK // (len(self._counts) * max(1, len(self.names))))
        systems = self._knowing(new_items)
        known = [history[history < len(self._counts)] for history in histories]
        lists: list[Places] = []
        said: dict[str, list[_Floats]] = {name: [] for name in self._exact}
        for start in range(0, len(users), size):
            part = slice(start, start + size)
            tables = {
                name: _whole(systems[name], users[part], histories[part], known[part], len(self._counts))
                for name in self._exact
            }
            for row, at in enumerate(range(start, min(start + size, len(users)))):
                scores = {name: table[row] for name, table in tables.items()}
                mine = self._join(
                    systems, scores, users[at], known[at], histories[at], width, allowed, repeats
                )
                lists.append(mine)
                for name, table in scores.items():
                    said[name].append(table[mine])
        places = _rectangle(lists)
        told = {
            name: _rectangle(said[name], places.shape[1])
            if name in said
            else _pairs(system, users, histories, known, places)
            for name, system in systems.items()
        }
        repeated = np.stack([times(history, row) for history, row in zip(known, places, strict=True)])
        none = np.zeros(len(users), dtype=bool)
        return Proposed(places, Evidence(told, self._counts[places], none, repeated))

    @property
    def _exact(self) -> tuple[str, ...]:
        return tuple(name for name in self.names if name not in self.indexes)

    def _knowing(self, new_items: pl.DataFrame | None) -> dict[str, Baseline]:
        """Give the systems that read texts those of new items."""
        if new_items is None or new_items.is_empty():
            return self.systems
        everything = np.arange(len(self._counts), dtype=np.int32)
        return {
            name: system.with_items(new_items, everything) if isinstance(system, ReadsText) else system
            for name, system in self.systems.items()
        }

    def _join(
        self,
        systems: Mapping[str, Baseline],
        scores: dict[str, _Floats],
        user: str,
        known: Places,
        whole: Places,
        width: int,
        allowed: _Bools | None,
        repeats: bool,
    ) -> Places:
        """Join one user's lists: the newest of the history, then what the retrievers put first."""
        free = np.ones(len(self._counts), dtype=bool) if allowed is None else allowed.copy()
        newest = np.array(list(dict.fromkeys(known[::-1].tolist()))[:_NEWEST], dtype=np.int32)
        again = newest[free[newest]] if repeats else newest[:0]
        free[known] = False
        left = min(width - min(len(again), width // 2), int(free.sum()))
        again = again[: width - left]
        if left + len(again) == 0:
            message = "no item may be recommended: the filters and the history leave none"
            raise DataError(message)
        lists = []
        for name in self.names:
            found = self._searched(systems[name], name, whole, left, free)
            if found is None:  # no index, or one that found too little of what may be proposed
                if name not in scores:
                    [table] = _whole(systems[name], [user], [whole], [known], len(free))
                else:
                    table = scores[name]
                found = firsts(table, free, left, self._lot)
            lists.append(found)
        joined = join_lists(lists, left, self._lot)
        if len(joined) < left:  # systems that know nothing of this history propose nothing
            free[joined] = False
            joined = np.concatenate(
                [joined, firsts(self._counts, free, left - len(joined), self._lot, ties=True)]
            )
        return np.concatenate([again, joined])

    def _searched(self, system: Baseline, name: str, history: Places, n: int, free: _Bools) -> Places | None:
        if name not in self.indexes or n == 0 or (len(history) and history.max() >= len(free)):
            return None
        [query] = system.history_vectors([history])
        found = self.indexes[name].search(query, n + len(history))
        found = found[free[found]][:n]
        return found if len(found) == n else None


def firsts(
    scores: NDArray[Any], allowed: _Bools, n: int, lot: NDArray[np.int64], *, ties: bool = False
) -> Places:
    """Return the `n` allowed items of the highest scores ``(n_items,)``, best first.

    Of items level with the last place, more than there is room for, none is taken: a system that says the
    same of so many proposes none of them. With `ties` the `lot` draws among them; it orders what is equal.

    Examples
    --------
    >>> firsts(np.array([0.5, 0.0, 0.9, 0.0]), np.ones(4, bool), 3, np.arange(4)).tolist()
    [2, 0]
    >>> firsts(np.array([0.5, 0.0, 0.9, 0.0]), np.ones(4, bool), 3, np.arange(4), ties=True).tolist()
    [2, 0, 1]
    """
    places = np.flatnonzero(allowed)
    values = np.asarray(scores, np.float64)[places]
    if n <= 0:
        return np.empty(0, np.int32)
    if n < len(values):
        last = np.partition(values, len(values) - n)[len(values) - n]
        above, level = np.flatnonzero(values > last), np.flatnonzero(values == last)
        room = n - len(above)
        if len(level) > room:
            level = level[np.argsort(lot[places[level]])[:room]] if ties else level[:0]
        chosen = np.concatenate([above, level])
        places, values = places[chosen], values[chosen]
    return places[np.lexsort((lot[places], -values))].astype(np.int32)


def join_lists(lists: Sequence[Places], n: int, lot: NDArray[np.int64]) -> Places:
    """Join lists, each best first, by the sum of reciprocal ranks; return the first `n`.

    Source: Cormack, Clarke and Büttcher, Reciprocal rank fusion outperforms Condorcet and individual rank
    learning methods, SIGIR 2009.

    Examples
    --------
    >>> join_lists([np.array([7, 3]), np.array([3, 5])], 2, np.arange(9)).tolist()
    [3, 7]
    """
    items = np.concatenate([*lists, np.empty(0, np.int32)])
    gains = np.concatenate([1 / (_SMOOTHING + np.arange(1.0, len(each) + 1)) for each in lists] or [items])
    different, which = np.unique(items, return_inverse=True)
    totals = np.bincount(which, gains, len(different)).round(12)  # sums in another order are level, too
    return different[np.lexsort((lot[different], -totals))[:n]].astype(np.int32)


def _whole(
    system: Baseline, users: Sequence[str], histories: Sequence[Places], known: Sequence[Places], size: int
) -> _Floats:
    """Score every item of the catalogue; systems that know behaviour alone pass new items over."""
    return system.score(users, histories if isinstance(system, ReadsText) else known)[:, :size]


def _pairs(
    system: Baseline,
    users: Sequence[str],
    histories: Sequence[Places],
    known: Sequence[Places],
    places: Places,
) -> _Floats:
    return score_places(system, users, histories if isinstance(system, ReadsText) else known, places)


def _rectangle(rows: Sequence[NDArray[Any]], width: int | None = None) -> NDArray[Any]:
    width = min(map(len, rows)) if width is None else width
    return np.stack([row[:width] for row in rows])


def times(history: Places, asked: Places) -> NDArray[np.int64]:
    """Count how often a history holds each of the items asked about.

    Examples
    --------
    >>> times(np.array([3, 1, 3]), np.array([1, 2, 3])).tolist()
    [1, 0, 2]
    """
    counts: NDArray[np.int64] = (asked[:, None] == history).sum(axis=1)
    return counts


@dataclass(frozen=True, slots=True)
class CatalogueFusion:
    """The fused ranker of the whole catalogue.

    Parameters
    ----------
    first
        Orders what was proposed by the companions alone.
    full
        Orders what the language model has read; its probability is that of being the next item, among all.
    items
        So many items the language model reads.
    """

    retriever: Retriever
    first: Fusion
    full: Fusion
    items: int

    def shortlist(self, proposed: Proposed, n: int | None = None, *, penalty: bool = True) -> Proposed:
        """Keep what the language model is to read, `n` items or as many as were learnt from, best first.

        Without `penalty` what the history's columns say isn't counted.
        """
        evidence = proposed.evidence if penalty else unrepeated(proposed.evidence)
        return proposed.best(self.first.score(evidence), n or self.items)

    def save(self, folder: Path) -> None:
        """Write both fusions, the indexes of those who search by one and, last, what ties them together."""
        self.first.save(folder / _FIRST_STAGE)
        self.full.save(folder / _FULL)
        for name, index in self.retriever.indexes.items():
            index.save(folder / path_name(name) / _INDEX)
        told = {"retrievers": self.retriever.names, "indexed": [*self.retriever.indexes], "items": self.items}
        write_json({"format": _FORMAT, **told}, folder / RETRIEVAL)

    @classmethod
    def load(
        cls, folder: Path, systems: Mapping[str, Baseline], counts: NDArray[np.int64]
    ) -> CatalogueFusion | None:
        """Read what `save` wrote; None where it wrote nothing. Raises `ArtifactError` where it is damaged."""
        path = folder / RETRIEVAL
        if not path.exists():
            return None
        try:
            card = json.loads(path.read_text(encoding="utf-8"))
            if card["format"] != _FORMAT or not set(card["retrievers"]) <= set(systems):
                message = f"format {card['format']!r}, retrievers {card['retrievers']}"
                raise ValueError(message)
            names, items, indexed = card["retrievers"], int(card["items"]), card["indexed"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            message = (
                f"{path}: says nothing of retrieval ({error!r}); run `trsr evaluate` on the run folder again"
            )
            raise ArtifactError(message) from error
        indexes = {
            name: VectorIndex.load(folder / path_name(name) / _INDEX, systems[name].item_vectors())
            for name in indexed
        }
        retriever = Retriever(systems, counts, names, indexes)
        return cls(retriever, Fusion.load(folder / _FIRST_STAGE), Fusion.load(folder / _FULL), items)


def unrepeated(evidence: Evidence) -> Evidence:
    """Give the same evidence as if no user had taken any of it before, for columns of the history alone."""
    assert evidence.repeats is not None
    return replace(evidence, repeats=np.zeros_like(evidence.repeats))


def fit_catalogue(
    retriever: Retriever,
    users: Sequence[str],
    histories: Sequence[Places],
    targets: Places,
    items: int,
    read: Callable[[Places], _Floats],
) -> tuple[CatalogueFusion, Places, _Floats]:
    """Learn from validation users to order the whole catalogue.

    Parameters
    ----------
    targets
        The item that each user took next, as its place in the catalogue, ``(n_users,)``.
    items
        So many items the language model reads of each user.
    read
        Says what the language model thinks of items ``(n_users, n_items)``.

    Returns
    -------
    tuple
        What was learnt, the items that each user's list holds, and the sums that order them, by weights that
        never saw the user; both ``(n_users, items)``.

    Raises
    ------
    DataError
        When too few targets are among what is proposed.
    """
    wide = retriever.propose(users, histories, PROPOSED * items)
    first, sums = fit_held_out(wide.evidence, place_targets(wide.places, targets), users)
    chosen = wide.best(sums, items)
    evidence = chosen.read(read(chosen.places))
    full, held = fit_held_out(evidence, place_targets(chosen.places, targets), users)
    return CatalogueFusion(retriever, first, full, items), chosen.places, held


def place_targets(places: Places, targets: Places) -> NDArray[np.int64]:
    """Return each target's column among a user's items ``(n_users, n_items)``, -1 where it isn't there.

    Examples
    --------
    >>> place_targets(np.array([[4, 2], [1, 3]]), np.array([2, 9])).tolist()
    [1, -1]
    """
    hits = places == targets[:, None]
    return np.where(hits.any(axis=1), hits.argmax(axis=1), -1).astype(np.int64)
