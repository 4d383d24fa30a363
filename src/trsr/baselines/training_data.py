"""What may be learnt from: training histories and validation users, items as places in the catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.config.data import SplitRule
from trsr.data.candidates import SAMPLER
from trsr.data.prepare import Prepared
from trsr.records import CANDIDATES, HISTORY, ITEM, ITEMS, POSITIVES, SPLIT, TARGET, USER, Split


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
    valid_histories
        What the validation users took before their targets.
    valid_candidates
        Their frozen candidates, ``(n_valid, n_candidates)``.
    valid_targets
        Column of the target among the candidates, ``(n_valid,)``.
    valid_positives
        Of impressions, which candidates are to be found, ``(n_valid, n_candidates)``; `valid_targets` are
        the first of them. None where it is the target alone.
    rule
        The protocol, which says what validation users are asked.
    given
        Whether the candidates that are measured were given, by a file or as impressions: they alone are
        then what choices go by.
    """

    items: pl.DataFrame
    fields: tuple[str, ...]
    sequences: tuple[NDArray[np.int32], ...]
    valid_users: tuple[str, ...]
    valid_histories: tuple[NDArray[np.int32], ...]
    valid_candidates: NDArray[np.int32]
    valid_targets: NDArray[np.int64]
    valid_positives: NDArray[np.bool_] | None = None
    rule: SplitRule = field(default_factory=SplitRule)
    given: bool = False

    @property
    def counts(self) -> NDArray[np.int64]:
        """How often each item stands in `sequences`, ``(n_items,)``."""
        taken = np.concatenate(self.sequences) if self.sequences else np.empty(0, np.int32)
        return np.bincount(taken, minlength=self.items.height).astype(np.int64)


def training_data(
    prepared: Prepared, fields: Sequence[str] = (), rule: SplitRule | None = None
) -> TrainingData:
    """Gather what may be learnt from: training users, background users, validation users to stop by.

    `rule` is how they were divided.

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
        valid_positives=positive_places(candidates, valid[POSITIVES], ids) if POSITIVES in valid else None,
        rule=rule or SplitRule(),
        given=SAMPLER in valid.columns and bool(valid[SAMPLER].is_in(["file", "impressions"]).any()),
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


NOTHING: Final = -1
"""Where a row of candidates has fewer than the longest one; its score is -inf."""


def candidate_places(candidates: pl.Series, ids: pl.Series) -> NDArray[np.int32]:
    """Turn lists of candidates into an array ``(n_users, n_candidates)``, filled by `NOTHING`."""
    rows = places(candidates, ids)
    longest = max(map(len, rows), default=0)
    table = np.full((len(rows), longest), NOTHING, np.int32)
    for place, row in enumerate(rows):
        table[place, : len(row)] = row
    return table


def positive_places(candidates: NDArray[np.int32], positives: pl.Series, ids: pl.Series) -> NDArray[np.bool_]:
    """Mark which candidates, places ``(n_users, n_candidates)``, are among each row's list of positives."""
    found = zip(candidates, places(positives, ids), strict=True)
    marked = [np.isin(row, own) for row, own in found]
    return np.array(marked, dtype=np.bool_).reshape(candidates.shape)


Places = NDArray[np.int32]
"""Items as their places in the catalogue."""
