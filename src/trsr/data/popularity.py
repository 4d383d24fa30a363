"""How often training users took each item: the only counts that samplers and baselines may use."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.records import HISTORY, ITEM, ITEMS, SPLIT, TARGET, Split


def training_counts(
    histories: pl.DataFrame, item_ids: Sequence[str], background: pl.DataFrame | None = None
) -> NDArray[np.int64]:
    """Count items over histories and targets of training users, and over background histories.

    Users of the other splits count nothing, so that no target that is to be
    predicted shows in the counts.

    Parameters
    ----------
    histories
        `SPLIT`, `HISTORY` and `TARGET`.
    item_ids
        The catalogue.
    background
        `ITEMS` of users who only ever train; see `Prepared.background`.

    Returns
    -------
    numpy.ndarray
        In the order of `item_ids`, ``(n_items,)``.

    Examples
    --------
    >>> rows = {"split": ["train", "test"], "history": [["a", "b"], ["a", "b"]], "target": ["c", "b"]}
    >>> training_counts(pl.DataFrame(rows), ["a", "b", "c", "d"]).tolist()
    [1, 1, 1, 0]
    """
    taken = histories.filter(pl.col(SPLIT) == Split.TRAIN).select(
        pl.concat_list(HISTORY, TARGET).explode().alias(ITEM)
    )
    if background is not None:
        taken = pl.concat([taken, background.select(pl.col(ITEMS).explode().alias(ITEM))])
    counts = taken.group_by(ITEM).len("count")
    catalogue = pl.DataFrame({ITEM: pl.Series(item_ids, dtype=pl.String)})
    joined = catalogue.join(counts, on=ITEM, how="left", maintain_order="left")
    return joined["count"].fill_null(0).cast(pl.Int64).to_numpy()
