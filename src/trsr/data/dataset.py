"""The one form that all data takes after reading: items with text fields, and histories in order of time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from trsr.config.data import Source
from trsr.errors import DataError
from trsr.records import ITEM, ITEMS, TIMES, USER, Finding


@dataclass(frozen=True, slots=True)
class Dataset:
    """Items and the histories of the users who took them.

    Parameters
    ----------
    items
        One row an item: ``item_id`` (String, unique, never empty), then one String
        column per text field in the order in which the fields are shown; "" where
        an item has no such text.
    histories
        One row a user: ``user_id`` (String, unique, never empty), ``item_ids``
        (List of String, oldest first, never empty, all of them in `items`) and
        ``times`` (List of Int64, unix seconds, rising, as long as ``item_ids``; null
        for users, or whole data sets, without times).
    findings
        What was noticed, repaired or left out on the way, where the data set tells it itself.
    """

    items: pl.DataFrame
    histories: pl.DataFrame
    findings: tuple[Finding, ...] = ()

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the text fields, in the order in which they are shown."""
        return tuple(name for name in self.items.columns if name != ITEM)


class Reader(ABC):
    """Reads one format of data; `settings` are the section `data` of the configuration."""

    Settings: ClassVar[type[Source]] = Source
    """What can be set; fields typed `Path` are relative to the configuration's file."""
    signs: ClassVar[str] = ""
    """Name and files by which `detect` knows the format, for whoever gives a folder of another one."""

    def __init__(self, settings: Any) -> None:
        self.settings: Any = settings

    @abstractmethod
    def files(self) -> tuple[Path, ...]:
        """List the files that are read, in a fixed order; a run begins anew when one of them changes."""

    @abstractmethod
    def read(self, seed: int) -> tuple[Dataset, tuple[Finding, ...]]:
        """Read, and tell what was noticed, repaired or left out; the seed draws the order of equal times.

        `trsr.data.repair.assemble` makes a valid data set of items and events as they are found. Raises
        DataError when a file can't be read, or nothing is left.
        """

    @classmethod
    def detect(cls, folder: Path, names: set[str]) -> Source | None:
        """Recognise the format by the `names` of what lies in a folder; None where it is another one."""
        return None


def checked(dataset: Dataset) -> Dataset:
    """Return the data set, or raise DataError naming every rule in `Dataset` that it breaks.

    Readers repair before they call this, so that it only fires on data that is built by hand,
    or on a reader's own fault.

    Examples
    --------
    >>> items = pl.DataFrame({"item_id": ["a"], "title": ["Hammer"]})
    >>> histories = pl.DataFrame({"user_id": ["u"], "item_ids": [["a", "a"]], "times": [[1, 2]]})
    >>> checked(Dataset(items, histories)).fields
    ('title',)
    """
    broken = [*_broken_in_items(dataset.items), *_broken_in_histories(dataset.histories)]
    if not broken:
        unknown = dataset.histories.select(pl.col(ITEMS).explode().unique()).join(
            dataset.items, left_on=ITEMS, right_on=ITEM, how="anti"
        )
        if unknown.height:
            broken.append(f"{ITEMS} must be items of the item table, got {unknown[ITEMS][0]!r}")
    if broken:
        message = "not a valid data set: " + "; ".join(broken)
        raise DataError(message)
    return dataset


def _broken_in_items(items: pl.DataFrame) -> list[str]:
    if items.columns[:1] != [ITEM]:
        return [f"the first column of items must be {ITEM}, got {items.columns[:1]}"]
    broken = [
        f"items.{name} must be String, got {dtype}"
        for name, dtype in items.schema.items()
        if dtype != pl.String
    ]
    if items.width < 2:
        broken.append("items must have at least one text field")
    if any(items.null_count().row(0)):
        broken.append("items must hold no nulls")
    if not broken and (items[ITEM] == "").any():
        broken.append(f"items.{ITEM} must not be empty")
    if items[ITEM].is_duplicated().any():
        broken.append(f"items.{ITEM} must be unique, {items[ITEM].is_duplicated().sum()} rows are not")
    return broken


def _broken_in_histories(histories: pl.DataFrame) -> list[str]:
    wanted = {USER: pl.String(), ITEMS: pl.List(pl.String), TIMES: pl.List(pl.Int64)}
    if dict(histories.schema) != wanted:
        return [f"histories must have the columns {wanted}, got {dict(histories.schema)}"]
    counted = histories.select(
        pl.col(USER).is_null().sum().alias(f"{USER} is null"),
        (pl.col(USER) == "").sum().alias(f"{USER} is empty"),
        pl.col(USER).is_duplicated().sum().alias(f"{USER} is not unique"),
        (pl.col(ITEMS).list.len() == 0).fill_null(True).sum().alias(f"{ITEMS} is empty"),
        pl.col(ITEMS).list.eval(pl.element().is_null()).list.any().sum().alias(f"{ITEMS} holds nulls"),
        (pl.col(TIMES).list.len() != pl.col(ITEMS).list.len()).sum().alias(f"{TIMES} differs in length"),
        pl.col(TIMES).list.eval(pl.element().is_null()).list.any().sum().alias(f"{TIMES} holds nulls"),
        pl.col(TIMES).list.eval(pl.element().diff() < 0).list.any().sum().alias(f"{TIMES} does not rise"),
    ).row(0, named=True)
    return [f"histories: {rule} in {count} rows" for rule, count in counted.items() if count]
