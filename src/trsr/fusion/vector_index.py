"""An index of items' vectors, built once and kept with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trsr.baselines.training_data import Places
from trsr.errors import ArtifactError, ConfigError

_COMPARED: Final = 200
"""Vectors of an index that are compared with the system's when it is loaded."""


class VectorIndex:
    """Finds vectors of the greatest inner product by a graph, in place of all of them.

    It is an index of usearch (Malkov and Yashunin, Efficient and robust approximate nearest neighbor search
    using hierarchical navigable small world graphs, TPAMI 2018); see `build` and `load`. It may miss some of
    the best.
    """

    def __init__(self, index: Any) -> None:
        self._index = index

    @classmethod
    def build(cls, vectors: NDArray[Any]) -> VectorIndex:
        """Put vectors ``(n, width)`` into a graph; raises `ConfigError` without the library."""
        index = _usearch().Index(
            ndim=vectors.shape[1], metric="ip", dtype="f32", connectivity=32, expansion_search=256
        )
        index.add(np.arange(len(vectors)), np.ascontiguousarray(vectors, np.float32))
        return cls(index)

    def search(self, query: NDArray[Any], n: int) -> Places:
        """Return the places of some `n` vectors near a query ``(width,)``, best first."""
        found = self._index.search(np.ascontiguousarray(query, np.float32), min(n, len(self._index)))
        return np.asarray(found.keys, np.int64).astype(np.int32)

    def save(self, path: Path) -> None:
        """Write it as one file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._index.save(str(path))

    @classmethod
    def load(cls, path: Path, vectors: NDArray[Any] | None) -> VectorIndex:
        """Read what `save` wrote of these vectors ``(n, width)``.

        Raises `ArtifactError` when it isn't an index of them: some, spread evenly, are compared in full.
        """
        try:
            index = _usearch().Index.restore(str(path))
            if vectors is None or index is None or (len(index), index.ndim) != vectors.shape:
                has = "nothing" if index is None else f"{len(index):,} items of {index.ndim} numbers"
                wanted = "none" if vectors is None else f"{len(vectors):,} of {vectors.shape[1]}"
                message = f"it has {has}, the system {wanted}"
                raise ValueError(message)
            some = np.unique(np.linspace(0, len(vectors) - 1, min(len(vectors), _COMPARED)).astype(np.int64))
            held = np.stack([np.asarray(index.get(int(place))) for place in some])
            if not np.array_equal(held, np.asarray(vectors[some], np.float32)):
                message = "it was built from other vectors"
                raise ValueError(message)
        except (OSError, ValueError, RuntimeError) as error:
            message = f"{path}: not an index of this catalogue ({error}); run `trsr evaluate` again"
            raise ArtifactError(message) from error
        return cls(index)


def _usearch() -> Any:
    try:
        from usearch import index  # noqa: PLC0415  an optional extra
    except ImportError as error:
        message = "fusion.index: usearch needs the library: pip install 'trsr[index]', or set it to `exact`"
        raise ConfigError(message) from error
    return index
