"""Dense vectors of item texts: TF-IDF, then a truncated SVD (latent semantic analysis)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from trsr.baselines.item_text import item_texts
from trsr.prompts.words import words


def text_vectors(items: pl.DataFrame, fields: Sequence[str], width: int, seed: int) -> NDArray[np.float32]:
    """Turn every item's text into numbers.

    Parameters
    ----------
    items
        `ITEM` and text fields.
    fields
        Which fields; empty for all.
    width
        Numbers in a vector.
    seed
        Of the randomized SVD.

    Returns
    -------
    numpy.ndarray
        ``(n_items, width)``, rows of length 1, or 0 where a text has no word that another text has.

    Examples
    --------
    >>> frame = pl.DataFrame({"item_id": ["a", "b", "c"], "title": ["red mug", "red cup mug", "saw"]})
    >>> vectors = text_vectors(frame, (), 2, seed=0)
    >>> vectors.shape, bool(vectors[0] @ vectors[1] > 0.9), float(abs(vectors[2]).sum())
    ((3, 2), True, 0.0)
    """
    vectors = np.zeros((items.height, width), dtype=np.float32)
    # A word of one item alone ties it to nothing.
    vectorizer = TfidfVectorizer(
        tokenizer=words,
        token_pattern=None,
        sublinear_tf=True,
        stop_words="english",
        min_df=2,
        ngram_range=(1, 2),
        dtype=np.float32,
    )
    try:
        weights = vectorizer.fit_transform(item_texts(items, fields))
    except ValueError:  # no word is left
        return vectors
    kept = min(width, min(weights.shape) - 1)
    if kept < 1:
        return vectors
    reduced = TruncatedSVD(kept, random_state=seed).fit_transform(weights)
    vectors[:, :kept] = normalize(reduced)
    return vectors
