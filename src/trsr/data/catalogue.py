"""The items of a data set, by id, each with the text fields that are to be shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy

import polars as pl

from trsr.errors import ConfigError, DataError
from trsr.records import ITEM, Item


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
