"""A start for token embeddings: which words stand near which, in texts and in histories, factorised.

Positive pointwise mutual information of tokens and the texts around them, reduced by a
singular value decomposition, as in Levy and Goldberg (Neural word embedding as implicit
matrix factorization, NIPS 2014). What is near an item is its own text, and the texts of
items that the same users took shortly before or after.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils.extmath import randomized_svd
from torch import nn

_REACH: Final = 4
"""Items of a history that count as near each other, at weight 1 / distance."""
_NEIGHBOUR_WEIGHT: Final = 2.0
"""Weight of all near items' texts together, against 1 of the item's own."""
_LONGEST_TEXT: Final = 64
_SMOOTHING: Final = 0.75
"""Exponent of the context counts, so that rare contexts don't get the largest values."""
_RARITY: Final = (0.5 / 3, 2.0)
"""Least and largest length of a vector: rare tokens tell items apart and speak louder."""
_SCALE: Final = 0.05
"""Root mean square of the embeddings made of vectors."""


def token_vectors(
    items: Sequence[Sequence[int]],
    texts: Sequence[Sequence[int]],
    histories: Sequence[Sequence[int]],
    vocabulary: int,
    width: int,
) -> NDArray[np.float32]:
    """Compute a vector for every token that stands in an item's line; all others are zeros.

    The result has shape ``(vocabulary, width)``.

    Parameters
    ----------
    items
        Token ids of each item's line.
    texts
        Token ids of all that is known of each item; the first 64 are read.
    histories
        Places of items, oldest first.

    Examples
    --------
    Tokens 0 and 1 stand in the same texts, token 3 in others:

    >>> lines = [[0], [1], [3], [4]]
    >>> vectors = token_vectors(lines, [[0, 1], [1, 0], [3, 4], [4, 3]], [], 5, 2)
    >>> bool(vectors[0] @ vectors[1] > 0.05 > vectors[0] @ vectors[3])
    True
    """
    lines = _presence(items, vocabulary)
    own = _averaged(_presence([text[:_LONGEST_TEXT] for text in texts], vocabulary))
    around = own + _NEIGHBOUR_WEIGHT * (_averaged(_nearness(histories, len(items))) @ own)
    together = (lines.T @ around).tocoo()
    total = together.sum()
    if not total:
        return np.zeros((vocabulary, width), np.float32)
    tokens = np.asarray(together.sum(axis=1)).ravel()
    contexts = np.asarray(together.sum(axis=0)).ravel() ** _SMOOTHING
    expected = tokens[together.row] * contexts[together.col] / contexts.sum()
    information = np.log(np.maximum(together.data, 1e-12) / np.maximum(expected, 1e-12))
    kept = (information > 0) & (together.data > 0)
    positive = sparse.csr_matrix(
        (information[kept], (together.row[kept], together.col[kept])), shape=(vocabulary, vocabulary)
    )
    rank = min(width, vocabulary)
    left, values, _ = randomized_svd(positive, rank, n_iter=3, random_state=0)
    vectors = left * np.sqrt(values)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    found = np.asarray(lines.sum(axis=0)).ravel()
    rarity = np.clip(np.log((len(items) + 1) / (found + 1)) / 3, *_RARITY)
    vectors *= np.where(found > 0, rarity, 0.0)[:, None]
    return np.pad(vectors, ((0, 0), (0, width - rank))).astype(np.float32)


def start_embeddings(embedding: nn.Module, vectors: NDArray[np.float32]) -> None:
    """Put vectors into an embedding, brought to its scale; tokens without a vector keep their weights."""
    known = np.abs(vectors).sum(axis=1) > 0
    if not known.any():
        return
    weight = embedding.get_parameter("weight").data
    scaled = vectors[known] * (_SCALE / np.sqrt(np.mean(vectors[known] ** 2)))
    weight[np.flatnonzero(known)] = weight.new_tensor(scaled)


def _presence(rows: Sequence[Sequence[int]], vocabulary: int) -> sparse.csr_matrix:
    """Say with 1 which tokens stand in which row."""
    row = np.repeat(np.arange(len(rows)), [len(tokens) for tokens in rows])
    column = np.array([token for tokens in rows for token in tokens], dtype=np.int64)
    matrix = sparse.csr_matrix((np.ones(len(row)), (row, column)), shape=(len(rows), vocabulary))
    matrix.data[:] = 1.0
    return matrix


def _nearness(histories: Sequence[Sequence[int]], items: int) -> sparse.csr_matrix:
    """Sum 1 / distance over all places where two items are near each other."""
    pairs = [
        (history[place], history[place - distance], 1 / distance)
        for history in histories
        for distance in range(1, _REACH + 1)
        for place in range(distance, len(history))
    ]
    later, earlier, weight = (
        (np.array(column) for column in zip(*pairs, strict=True)) if pairs else ([], [], [])
    )
    matrix = sparse.csr_matrix((weight, (later, earlier)), shape=(items, items), dtype=np.float64)
    return matrix + matrix.T


def _averaged(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    sums = np.asarray(matrix.sum(axis=1)).ravel()
    return sparse.diags_array(1 / np.maximum(sums, 1.0)) @ matrix
