"""What a baseline is, how it is opened and asked, and profiles of histories."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy import sparse

from trsr.artifacts import replacing
from trsr.baselines.training_data import NOTHING, Places, TrainingData
from trsr.config.section import Section
from trsr.errors import ArtifactError, ConfigError
from trsr.registry import BASELINES, find_part, make_part, parse, spell

_LEARNT_FILE: Final = "learnt.safetensors"
_LEARNT_FORMAT: Final = 1


class Scores(Protocol):
    """Whatever ranks: a baseline, or your own object."""

    def score(
        self, users: Sequence[str], histories: Sequence[Places], candidates: Places
    ) -> NDArray[np.float64]:
        """Score candidates, ``(n_users, n_candidates)``, as places in the catalogue; higher is better."""
        ...


class Learnt:
    """Saves and restores the attributes that `learnt` names: arrays, sparse rows, and what JSON knows."""

    learnt: ClassVar[tuple[str, ...]] = ()
    """Names of all attributes that were learnt; none of them may tell of a user."""

    def save(self, folder: Path) -> None:
        """Write all that was learnt, without code, as one file of safetensors.

        Raises `ConfigError` when `learnt` is empty.
        """
        if not self.learnt:
            message = (
                f"{type(self).__name__} doesn't say in `learnt` which of its attributes it has learnt, so "
                "that it can't be kept to be served"
            )
            raise ConfigError(message)
        arrays: dict[str, NDArray[Any]] = {}
        told: dict[str, Any] = {}
        for name in self.learnt:
            value = getattr(self, name)
            if isinstance(value, sparse.csr_array):
                told[name] = {"rows": list(value.shape)}
                arrays |= {f"{name}.{part}": getattr(value, part) for part in _ROWS}
            elif isinstance(value, np.ndarray):
                arrays[name] = np.ascontiguousarray(value)
            else:
                told[name] = {"value": value}
        card = {"format": _LEARNT_FORMAT, "system": type(self).__name__, "values": told}
        with replacing(folder / _LEARNT_FILE) as path:
            save_file(arrays, path, {"learnt": json.dumps(card, ensure_ascii=False)})

    def restore(self, folder: Path) -> None:
        """Read what `save` wrote; raises `ArtifactError` when it is missing or damaged."""
        path = folder / _LEARNT_FILE
        try:
            with safe_open(path, "np") as opened:
                card = json.loads(opened.metadata()["learnt"])
                arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  no mapping
            if (card["format"], card["system"]) != (_LEARNT_FORMAT, type(self).__name__):
                message = f"format {card['format']} of {card['system']}"
                raise ValueError(message)
            for name in self.learnt:
                setattr(self, name, arrays[name] if name in arrays else _value(name, card["values"], arrays))
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            message = (
                f"{path}: not what {type(self).__name__} has learnt ({error!r}); delete {folder.parent}, and "
                "run `trsr evaluate` on the run folder again"
            )
            raise ArtifactError(message) from error


_ROWS: Final = ("data", "indices", "indptr")


def _value(name: str, told: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Any:
    if "value" in told[name]:
        return told[name]["value"]
    return sparse.csr_array(
        tuple(arrays[f"{name}.{part}"] for part in _ROWS), shape=tuple(told[name]["rows"])
    )


class Baseline(Learnt, ABC):
    """Learns from training users and the catalogue, then scores items for any history.

    Nothing about the users who are measured reaches `fit`, except, for those who stop
    early, the validation users that `TrainingData` holds.

    Parameters
    ----------
    seed
        Of whatever is drawn.
    settings
        Values of the class's own ``Settings``, by keyword.
    """

    label: ClassVar[str] = ""
    """Name in tables and pages; empty for the name in the configuration."""
    description: ClassVar[str] = ""
    """One sentence about it, for pages."""
    stochastic: ClassVar[bool] = False
    """Whether chance takes part in the training: then a comparison trains it once a seed."""
    counts_interactions: ClassVar[bool] = False
    """Whether the interactions of training users are all that it learns from."""
    Settings: ClassVar[type[Section]] = Section
    """What can be set, with its defaults; unknown settings are refused before the long work."""

    def __init__(self, *, seed: int = 0, **settings: Any) -> None:
        self.seed = seed
        self.settings: Any = self.Settings(**settings)
        self.notes: tuple[str, ...] = ()
        """What `fit` left out or repaired, counted."""

    @classmethod
    def kind(cls) -> str:
        """Name of the class in the configuration: a short one, or ``package.module:Class``."""
        return spell("baseline", cls, BASELINES).partition("(")[0]

    @abstractmethod
    def fit(self, data: TrainingData) -> None:
        """Learn; called once, before `score`.

        Parameters
        ----------
        data
            Training histories, the catalogue, and validation users to stop by.
        """

    @abstractmethod
    def score(
        self, users: Sequence[str], histories: Sequence[Places], candidates: Places | None = None
    ) -> NDArray[np.float64]:
        """Score candidates, or the whole catalogue; higher is better, no value is NaN.

        Parameters
        ----------
        users
            Ids; a system may draw chance from them and nothing else.
        histories
            What each user took before, oldest first, as places in the catalogue; may be empty.
        candidates
            Places of each user's candidates, ``(n_users, n_candidates)``; None for every item
            of the catalogue. A pair's score is the same either way and whatever other users
            are asked about (floats within 1e-5).

        Returns
        -------
        numpy.ndarray
            ``(n_users, n_candidates)`` or ``(n_users, n_items)``.
        """

    @staticmethod
    def utilities(scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bring scores to a scale on which differences add up, for the fused ranker; else as they are."""
        return scores

    def item_vectors(self) -> NDArray[np.float64] | None:
        """Give the catalogue's vectors ``(n_items, width)``; None for a system that no vector index serves.

        Their inner products with a history's vector stand in the order of `score`.
        """
        return None

    def history_vectors(self, histories: Sequence[Places]) -> NDArray[np.float64]:
        """Give histories' vectors ``(n_users, width)``, of a system that has `item_vectors`."""
        raise NotImplementedError

    def _by_feature(self, items: sparse.csr_array) -> sparse.csr_array:
        """Turn rows of items ``(n_items, n_features)``, once: whoever has few features reads few rows."""
        kept: tuple[sparse.csr_array, sparse.csr_array] | None = self.__dict__.get("_turned")
        if kept is None or kept[0] is not items:
            kept = self.__dict__["_turned"] = items, sparse.csr_array(items.T)
        return kept[1]


class ReadsText(Baseline):
    """A baseline that compares texts alone, and so can score items that nobody has taken yet."""

    @abstractmethod
    def with_items(self, items: pl.DataFrame, among: Places) -> ReadsText:
        """Make a system that knows other items, with what was learnt from the catalogue.

        Parameters
        ----------
        items
            Text fields of the new items; their places come behind those of `among`.
        among
            Places of the items of the catalogue that it knows, which are its places 0, 1, ...: who asks about
            few items needn't copy a catalogue.
        """


# Likenesses are taken as logarithms, from a floor on: on validation users of MicroLens and Amazon
# Industrial, floors from .01 to .1 gave a lower loss than the likeness or its square root.
_FLOOR: Final = 0.03


def log_likeness(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Take the logarithm of likenesses, which are 0 or more, from a floor on; see `Baseline.utilities`."""
    logarithms: NDArray[np.float64] = np.log(np.maximum(scores, 0.0) + _FLOOR)
    return logarithms


_PAIRS_A_CHUNK: Final = 16_384


Decay = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
"""What items weigh, by their ages (1 for the newest) and the lengths of the histories that they stand in."""


def history_rows(histories: Sequence[Places], n_items: int, decay: float | Decay = 1.0) -> sparse.csr_array:
    """Make a row of every history, ``(n_users, n_items)``: an item weighs `decay` to the power of its age.

    Histories are places in the catalogue, oldest first, and may be empty; items that were taken again have
    the sum of their weights. A `decay` that is a number is raised to the power of age - 1.

    Examples
    --------
    >>> rows = history_rows([np.array([2, 0, 2], np.int32)], n_items=3, decay=0.5)
    >>> rows.toarray().tolist()
    [[0.5, 0.0, 1.25]]
    """
    lengths = np.array([len(history) for history in histories], dtype=np.int64)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    places = np.concatenate([*histories, np.empty(0, np.int32)])
    ages = np.repeat(ends[1:], lengths) - np.arange(len(places))
    if callable(decay):
        weights = decay(ages.astype(np.float64), np.repeat(lengths, lengths).astype(np.float64))
    else:
        weights = np.power(float(decay), ages - 1)
    rows = sparse.csr_array((weights, places, ends), shape=(len(histories), n_items))
    rows.sum_duplicates()
    return rows


def products(
    profiles: sparse.csr_array, items: sparse.csr_array, candidates: Places | None, turned: sparse.csr_array
) -> NDArray[np.float64]:
    """Multiply users' rows ``(n_users, n_features)`` with rows of items ``(n_items, n_features)``.

    `candidates` says which items to take for each user, ``(n_users, n_candidates)``; None for all, by
    `turned`, the items as columns. Only their pairs are worked out, in chunks, so that memory depends neither
    on users nor on the catalogue. The result is ``(n_users, n_candidates)`` or ``(n_users, n_items)``.
    """
    if candidates is None:
        table: NDArray[np.float64] = (profiles @ turned).toarray()
        return table
    wanted = candidates.ravel()
    users = np.repeat(np.arange(len(candidates)), candidates.shape[1])
    scores = np.empty(len(wanted))
    for start in range(0, len(wanted), _PAIRS_A_CHUNK):
        chunk = slice(start, start + _PAIRS_A_CHUNK)
        scores[chunk] = profiles[users[chunk]].multiply(items[wanted[chunk]]).sum(axis=1)
    return scores.reshape(candidates.shape)


def row_kinds(table: NDArray[Any]) -> NDArray[np.int64]:
    """Give the rows of a table numbers, equal ones the same, ``(n_rows,)``.

    Examples
    --------
    >>> row_kinds(np.array([[2.0, 1.0], [0.0, 3.0], [2.0, 1.0]])).tolist()
    [1, 0, 1]
    """
    if not table.size:
        return np.zeros(len(table), np.int64)
    rows = np.ascontiguousarray(table)
    whole = rows.view(np.dtype((np.void, rows.shape[1] * rows.itemsize)))[:, 0]
    return np.unique(whole, return_inverse=True)[1].astype(np.int64)


def share_ties(
    scores: NDArray[np.float64], kinds: NDArray[np.int64], candidates: Places | None
) -> NDArray[np.float64]:
    """Give all of a user's candidates of one kind the score of the first of them.

    A product of dense matrices rounds the same pair differently at different places, and what differs in the
    last bit doesn't tie. Scores are as `products` gives them for these `candidates`; `kinds` are of all
    items, as `row_kinds` numbers them, ``(n_items,)``.

    Examples
    --------
    >>> kinds = np.array([0, 1, 0])
    >>> share_ties(np.array([[0.5, 0.2, 0.4]]), kinds, None).tolist()
    [[0.5, 0.2, 0.5]]
    >>> share_ties(np.array([[0.2, 0.4, 0.5]]), kinds, np.array([[1, 2, 0]])).tolist()
    [[0.2, 0.4, 0.4]]
    """
    if candidates is None:
        _, firsts, own = np.unique(kinds, return_index=True, return_inverse=True)
        return scores[:, firsts[own]]
    asked = kinds[candidates]
    order = np.argsort(asked, axis=1, kind="stable")
    in_order = np.take_along_axis(asked, order, axis=1)
    begins = np.ones(asked.shape, dtype=bool)
    begins[:, 1:] = in_order[:, 1:] != in_order[:, :-1]
    firsts = np.maximum.accumulate(np.where(begins, np.arange(asked.shape[1]), 0), axis=1)
    shared = np.empty_like(scores)
    first_columns = np.take_along_axis(order, firsts, axis=1)
    np.put_along_axis(shared, order, np.take_along_axis(scores, first_columns, axis=1), axis=1)
    return shared


_USERS_A_BATCH: Final = 4096
_CELLS_A_BATCH: Final = 16_000_000


def baseline_class(name: str) -> type[Baseline]:
    """Return the class of a name of the configuration; raises `ConfigError` when there is none."""
    found: type[Baseline] = find_part("baseline", parse(name)[0], BASELINES)
    return found


def open_baseline(name: str, seed: int) -> Baseline:
    """Make an untrained baseline with the settings in its name; the seed is that of what it draws or trains.

    Raises `ConfigError` when there is no baseline of that name, or it lacks a setting.

    Examples
    --------
    >>> type(open_baseline("tfidf", seed=0)).__name__
    'TextSimilarity'
    """
    opened: Baseline = make_part("baseline", name, BASELINES, seed=seed)
    return opened


def score_places(
    system: Scores, users: Sequence[str], histories: Sequence[Places], candidates: Places
) -> NDArray[np.float64]:
    """Score candidates given as places in the catalogue, ``(n_users, n_candidates)``, in batches of users.

    The score of `NOTHING` is -inf.
    """
    scores = np.empty(candidates.shape)
    asked = np.maximum(candidates, 0)
    for start in range(0, len(users), _USERS_A_BATCH):
        part = slice(start, start + _USERS_A_BATCH)
        scores[part] = system.score(users[part], histories[part], asked[part])
    scores[candidates == NOTHING] = -np.inf
    return scores


def score_catalogue(
    baseline: Baseline, users: Sequence[str], histories: Sequence[Places], n_items: int
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Score every item of the catalogue, in batches of users that fit into memory.

    Yields which of the users, and their scores, ``(n_users_of_the_batch, n_items)``; 128 MB at most, or one
    user.
    """
    size = max(1, _CELLS_A_BATCH // max(1, n_items))
    for start in range(0, len(users), size):
        part = slice(start, min(start + size, len(users)))
        yield part, baseline.score(users[part], histories[part])
