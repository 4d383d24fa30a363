"""What systems that compare texts read of an item."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from trsr.records import ITEM


def item_texts(items: pl.DataFrame, fields: Sequence[str] = ()) -> list[str]:
    """Join the text fields of every item with a space; missing ones are left out.

    Parameters
    ----------
    items
        `ITEM` and text fields.
    fields
        Which fields, in this order; empty for all.

    Examples
    --------
    >>> item_texts(pl.DataFrame({"item_id": ["a"], "title": ["Hammer"], "brand": [None]}))
    ['Hammer']
    """
    names = tuple(fields) or tuple(name for name in items.columns if name != ITEM)
    return items.select(pl.concat_str(names, separator=" ", ignore_nulls=True)).to_series().to_list()
