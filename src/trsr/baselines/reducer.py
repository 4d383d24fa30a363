"""Vectors made as wide as they are needed, by what the catalogue's tell; scaled to start a table."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from typing import ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray

from trsr.baselines.base import Learnt, row_kinds
from trsr.errors import DataError

ReducerName = Literal["pca", "random", "lda", "autoencoder", "none"]
"""Principal components, a Gaussian random projection, the directions that tell classes of items apart, the
middle of a network that gives the vectors back, or the vectors as they are."""

_Vectors = NDArray[np.float32]
_Precise = NDArray[np.float64]


class Reducer(Learnt):
    """A linear map to fewer numbers, learnt from the catalogue's vectors; a vector of 0 stays 0."""

    learnt: ClassVar[tuple[str, ...]] = ("_centre", "_directions")

    def __init__(self, kind: ReducerName, width: int, seed: int) -> None:
        self._kind, self._width, self._seed = kind, width, seed
        self._centre = np.empty(0, np.float32)
        self._directions = np.empty((0, 0), np.float32)
        self.notes: list[str] = []
        """What was left out, counted."""

    def fit(self, vectors: _Vectors, classes: Sequence[str | None] = ()) -> None:
        """Learn the map from vectors ``(n, width)``.

        `classes` says what each vector is of, for `lda`; raises `DataError` when it tells nothing apart.
        """
        there: NDArray[np.bool_] = np.any(vectors, axis=1)
        if self._kind == "none" or not there.any():
            return
        known = vectors[there].astype(np.float64)
        centre, directions = self._learn(
            known, [name for name, one in zip(classes, there, strict=False) if one]
        )
        self._centre, self._directions = centre.astype(np.float32), directions.astype(np.float32)

    def __call__(self, vectors: _Vectors) -> _Vectors:
        """Reduce vectors, ``(n, width)``; missing directions of a small catalogue are 0."""
        if not self._directions.size:
            return vectors
        # Each vector once: at another place of a product it is rounded differently, and doesn't tie.
        _, firsts, own = np.unique(row_kinds(vectors), return_index=True, return_inverse=True)
        different = vectors[firsts]
        reduced = np.zeros((len(different), self._width), np.float32)
        reduced[:, : len(self._directions)] = self._mapped(different - self._centre)
        reduced[~different.any(axis=1)] = 0.0
        made: _Vectors = reduced[own]
        return made

    def _mapped(self, centred: _Vectors) -> _Vectors:
        return centred @ self._directions.T

    def _learn(self, known: _Precise, classes: Sequence[str | None]) -> tuple[_Precise, _Precise]:
        """Give the centre, and directions ``(n_directions, n)``."""
        nowhere = np.zeros(known.shape[1])
        if self._kind == "pca":
            library = importlib.import_module("sklearn.decomposition")
            kept = min(self._width, *known.shape)
            made = library.PCA(kept, svd_solver="covariance_eigh").fit(known)
            return made.mean_, made.components_
        if self._kind == "lda":
            return self._telling_apart(known, classes)
        library = importlib.import_module("sklearn.random_projection")
        made = library.GaussianRandomProjection(self._width, random_state=self._seed).fit(known)
        return nowhere, made.components_

    def _telling_apart(self, known: _Precise, classes: Sequence[str | None]) -> tuple[_Precise, _Precise]:
        """Do linear discriminant analysis (Fisher 1936), by classes of more than one item."""
        labelled = np.array([name is not None for name in classes])
        named = np.array([name or "" for name in classes])
        _, own, sizes = np.unique(named, return_inverse=True, return_counts=True)
        usable = labelled & (sizes[own] > 1)
        if left_out := int((~usable).sum()):
            self.notes.append(
                f"lda: {left_out:,} of {len(known):,} items have no class, or one of their own: nothing is "
                "learnt from them"
            )
        vectors, labels = known[usable], named[usable]
        n_classes = len(np.unique(labels))
        differ = any(np.ptp(vectors[labels == name], axis=0).any() for name in np.unique(labels))
        if n_classes < _APART or not differ:
            message = (
                f"lda needs {_APART} classes of several items at least, and items of a class that differ; "
                f"here {n_classes:,} classes have several items: name another field by classes, or take the "
                "reducer pca"
            )
            raise DataError(message)
        kept = min(self._width, n_classes - 1, known.shape[1])
        if kept < self._width:
            self.notes.append(
                f"lda: {n_classes:,} classes are told apart by {kept:,} numbers at most; the other "
                f"{self._width - kept:,} are 0"
            )
        library = importlib.import_module("sklearn.discriminant_analysis")
        made = library.LinearDiscriminantAnalysis(n_components=kept).fit(vectors, labels)
        return made.xbar_, made.scalings_[:, :kept].T


_APART: Final = 2


class Autoencoder(Reducer):
    """The middle of a network of three layers of tanh that learns to give the catalogue's vectors back.

    The outer layers are twice as wide as the middle, as far as the vectors are. Source: Boz et al., 2024; the
    layers of their code have no tanh, so that they can find no more than principal components.
    """

    learnt = ("_centre", "_directions", "_bias", "_hidden", "_hidden_bias")

    def __init__(self, kind: ReducerName, width: int, seed: int) -> None:
        super().__init__(kind, width, seed)
        self._bias = self._hidden_bias = np.empty(0, np.float32)
        self._hidden = np.empty((0, 0), np.float32)

    def _mapped(self, centred: _Vectors) -> _Vectors:
        made: _Vectors = np.tanh(
            np.tanh(centred @ self._hidden + self._hidden_bias) @ self._directions.T + self._bias
        )
        return made

    def _learn(self, known: _Precise, classes: Sequence[str | None]) -> tuple[_Precise, _Precise]:
        library = importlib.import_module("sklearn.neural_network")
        centre = known.mean(axis=0)
        spread = float((known - centre).std()) or 1.0
        outer = min(2 * self._width, known.shape[1])
        network = library.MLPRegressor(
            hidden_layer_sizes=(outer, self._width, outer),
            activation="tanh",
            max_iter=_EPOCHS,
            n_iter_no_change=_EPOCHS,
            random_state=self._seed,
        )
        with warnings.catch_warnings():
            # It ends by the number of epochs, which is no fault.
            warnings.simplefilter("ignore", importlib.import_module("sklearn.exceptions").ConvergenceWarning)
            network.fit((known - centre) / spread, (known - centre) / spread)
        into, middle = network.coefs_[:2]
        self._hidden = (into / spread).astype(np.float32)
        self._hidden_bias, self._bias = (bias.astype(np.float32) for bias in network.intercepts_[:2])
        return centre, middle.T


_EPOCHS: Final = 100


def open_reducer(kind: ReducerName, width: int, seed: int) -> Reducer:
    """Make a reducer that has learnt nothing yet; `seed` is of whatever is drawn."""
    return Autoencoder(kind, width, seed) if kind == "autoencoder" else Reducer(kind, width, seed)


def scaled(vectors: _Vectors, length: float) -> _Vectors:
    """Scale a table so that its rows, but those of 0, have this root mean square length.

    Examples
    --------
    >>> scaled(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32), 10.0).tolist()
    [[6.0, 8.0], [0.0, 0.0]]
    """
    squares = (vectors.astype(np.float64) ** 2).sum(axis=1)
    found = float(np.sqrt(squares[squares > 0].mean())) if squares.any() else 1.0
    return (vectors * (length / found)).astype(np.float32)
