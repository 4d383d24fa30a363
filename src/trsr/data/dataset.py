"""The one form that all data takes after reading, the catalogue of its items, and what a reader is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from trsr.config.data import Source
from trsr.errors import ConfigError, DataError
from trsr.records import ITEM, ITEMS, TIMES, USER, Finding, Item


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
    rows
        Which interactions the data's own files measure, where they say so: `USER`, `PLACE` (of the target in
        ``item_ids``, from 0) and `SPLIT` (valid or test).
    impressions
        What was shown together, where the data says so: `USER` (an id of the row's own), `PERSON`, `SPLIT`,
        `HISTORY`, `CANDIDATES` and `POSITIVES`, lists of items.
    """

    items: pl.DataFrame
    histories: pl.DataFrame
    findings: tuple[Finding, ...] = ()
    rows: pl.DataFrame | None = None
    impressions: pl.DataFrame | None = None

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


class Catalogue:
    """Looks items up by id.

    `items` has one row an item: `ITEM`, then one String column per text field. `fields` are shown
    in this order; empty for all in the table's own. Raises ConfigError when the items lack one of them.

    Examples
    --------
    >>> items = pl.DataFrame({"item_id": ["a", "b"], "title": ["Hammer", "Saw"], "brand": ["", "Zagg"]})
    >>> shop = Catalogue(items, ["brand", "title"])
    >>> dict(shop.item("b").fields)
    {'brand': 'Zagg', 'title': 'Saw'}
    >>> dict(shop.item("a").fields)
    {'title': 'Hammer'}
    """

    def __init__(self, items: pl.DataFrame, fields: Sequence[str] = ()) -> None:
        self.available = tuple(name for name in items.columns if name != ITEM)
        self.fields = self._chosen(fields)
        self.ids: tuple[str, ...] = tuple(items[ITEM])
        self._rows = {item_id: row for row, item_id in enumerate(self.ids)}
        self._texts = {name: items[name].fill_null("").to_list() for name in self.fields}

    def showing(self, fields: Sequence[str]) -> Catalogue:
        """Return the same items with other fields, out of those that it shows; the texts are shared.

        Raises ConfigError as the constructor does.
        """
        other = copy(self)
        other.fields = self._chosen(fields)
        return other

    def _chosen(self, fields: Sequence[str]) -> tuple[str, ...]:
        unknown = [name for name in fields if name not in self.available]
        if unknown:
            message = (
                f"items.fields and prompt.item_fields must be among {', '.join(self.available)}, "
                f"got {', '.join(map(repr, unknown))}"
            )
            raise ConfigError(message)
        return tuple(fields) or self.available

    def __contains__(self, item_id: object) -> bool:
        return item_id in self._rows

    def __len__(self) -> int:
        return len(self.ids)

    def item(self, item_id: str) -> Item:
        """Return one item; fields with an empty text are left out. Raises DataError when there is none."""
        row = self.place(item_id)
        texts = ((name, self._texts[name][row]) for name in self.fields)
        return Item(item_id, {name: text for name, text in texts if text})

    def line(self, item_id: str, chars: int) -> str:
        """Show an item by its first text field, which is its title in every format; cut where it is longer.

        Examples
        --------
        >>> Catalogue(pl.DataFrame({"item_id": ["a"], "title": ["Hammer"]})).line("a", 5)
        'Hamm…'
        """
        text = next(iter(self.item(item_id).fields.values()), f"(item {item_id}, no text)")
        return text if len(text) <= chars else f"{text[: chars - 1].rstrip()}…"

    def column(self, name: str) -> Sequence[str]:
        """Return a field's text of every item. Raises DataError when there is no such field."""
        if name not in self._texts:
            message = f"items have no field {name!r}, but {', '.join(self._texts)}"
            raise DataError(message)
        return self._texts[name]

    def place(self, item_id: str) -> int:
        """Return the item's row in the table. Raises DataError when there is no such item."""
        row = self._rows.get(item_id)
        if row is None:
            message = (
                f"item {item_id!r} is not in the catalogue of {len(self.ids):,} items; "
                "give an id of the item table, or the item's text fields where new items are allowed"
            )
            raise DataError(message)
        return row

    def make_item(self, item_id: str, texts: Mapping[str, str]) -> Item:
        """Make an item that the catalogue doesn't hold, in the form of those that it does.

        `texts` is field name to text; an `ITEM` among them is passed over. Raises DataError when a field
        is none of the data set's: the model would never have seen it.

        Examples
        --------
        >>> items = pl.DataFrame({"item_id": ["a"], "title": ["Hammer"], "brand": ["Zagg"]})
        >>> shop = Catalogue(items, ["brand", "title"])
        >>> dict(shop.make_item("new", {"title": "Saw", "brand": "Ox"}).fields)
        {'brand': 'Ox', 'title': 'Saw'}
        """
        unknown = [name for name in texts if name not in self.available and name != ITEM]
        if unknown:
            message = (
                f"item {item_id!r}: fields must be among {', '.join(self.available)}, "
                f"got {', '.join(map(repr, unknown))}"
            )
            raise DataError(message)
        return Item(item_id, {name: texts[name] for name in self.fields if texts.get(name)})

    def items(self, item_ids: Iterable[str]) -> tuple[Item, ...]:
        """Return several items, in the order of their ids. Raises DataError when one of them is not there."""
        return tuple(self.item(item_id) for item_id in item_ids)
