"""What baselines learn from, with items as their places in the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.data.prepare import Prepared
from trsr.records import CANDIDATES, HISTORY, ITEM, ITEMS, SPLIT, TARGET, USER, Split


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Training histories, and validation users to stop by.

    Parameters
    ----------
    items
        The catalogue, `ITEM` and text fields; a place is a row of it.
    fields
        Text fields that systems read; empty for all.
    sequences
        Histories with their targets at the end, oldest first, of training users and then of
        background users; each has 2 items or more.
    valid_users
        Ids of the validation users.
    valid_histories
        What they took before their targets.
    valid_candidates
        Their frozen candidates, ``(n_valid, n_candidates)``.
    valid_targets
        Column of the target among the candidates, ``(n_valid,)``.
    """

    items: pl.DataFrame
    fields: tuple[str, ...]
    sequences: tuple[NDArray[np.int32], ...]
    valid_users: tuple[str, ...]
    valid_histories: tuple[NDArray[np.int32], ...]
    valid_candidates: NDArray[np.int32]
    valid_targets: NDArray[np.int64]

    @property
    def counts(self) -> NDArray[np.int64]:
        """How often each item stands in `sequences`, ``(n_items,)``."""
        taken = np.concatenate(self.sequences) if self.sequences else np.empty(0, np.int32)
        return np.bincount(taken, minlength=self.items.height).astype(np.int64)


def training_data(prepared: Prepared, fields: Sequence[str] = ()) -> TrainingData:
    """Gather what may be learnt from: training users, background users, validation users to stop by.

    Examples
    --------
    >>> from trsr.config import Config
    >>> from trsr.config.data import DemoData
    >>> from trsr.data.prepare import prepare
    >>> data = training_data(prepare(Config(data=DemoData(users=100, items=100))))
    >>> len(data.sequences) + len(data.valid_users) < 100
    True
    """
    ids = prepared.items[ITEM]
    trains = pl.col(SPLIT) == Split.TRAIN.value
    told = prepared.histories.filter(trains).select(pl.concat_list(HISTORY, TARGET).alias(ITEMS))
    sequences = pl.concat([told[ITEMS], prepared.background[ITEMS]])
    valid = prepared.candidates.filter(pl.col(SPLIT) == Split.VALID.value).join(
        prepared.histories.select(USER, HISTORY), on=USER, how="left", maintain_order="left"
    )
    candidates = candidate_places(valid[CANDIDATES], ids)
    targets = places(valid.select(pl.concat_list(TARGET).alias(ITEMS))[ITEMS], ids)
    return TrainingData(
        items=prepared.items,
        fields=tuple(fields),
        sequences=tuple(places(sequences, ids)),
        valid_users=tuple(valid[USER]),
        valid_histories=tuple(places(valid[HISTORY], ids)),
        valid_candidates=candidates,
        valid_targets=np.array(
            [
                int(np.flatnonzero(row == target[0])[0])
                for row, target in zip(candidates, targets, strict=True)
            ],
            dtype=np.int64,
        ),
    )


def places(lists: pl.Series, ids: pl.Series) -> list[NDArray[np.int32]]:
    """Turn lists of item ids into places in the catalogue.

    Examples
    --------
    >>> [row.tolist() for row in places(pl.Series([["b", "a"], []]), pl.Series(["a", "b"]))]
    [[1, 0], []]
    """
    order = pl.DataFrame({ITEM: ids}).with_row_index("place")
    flat = pl.DataFrame({ITEM: lists.explode(empty_as_null=False).cast(pl.String)})
    found = flat.join(order, on=ITEM, how="left", maintain_order="left")["place"]
    ends = np.cumsum(lists.list.len().to_numpy())[:-1]
    return np.split(found.cast(pl.Int32).to_numpy(), ends) if lists.len() else []


def candidate_places(candidates: pl.Series, ids: pl.Series) -> NDArray[np.int32]:
    """Turn lists of candidates, all of one length, into an array ``(n_users, n_candidates)``."""
    rows = places(candidates, ids)
    return np.stack(rows) if rows else np.empty((0, 0), np.int32)
