"""Telling a catalogue's fields apart: categories, makers and features, titles and descriptions."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from enum import Enum
from statistics import fmean
from typing import Final

from trsr.prompts.words import spaced
from trsr.records import Item

_SUBJECT_NAME: Final = re.compile(r"categor|genre|topic|section|department|^type$|^tags?$", re.IGNORECASE)
_MAKER_NAME: Final = re.compile(
    r"brand|maker|manufacturer|author|publisher|artist|creator|channel|studio|vendor|label|store",
    re.IGNORECASE,
)
_IGNORED_NAME: Final = re.compile(r"^(id|asin|isbn|sku|price|url|image|images|date|time)$", re.IGNORECASE)
_HEADING_NAME: Final = re.compile(r"title|headline|^name$|^text$|product_name", re.IGNORECASE)
_NUMBER: Final = re.compile(r"[^\w]*\d[\d.,]*[^\w]*")
_PARTS: Final = re.compile(r"\s*[>|;＞｜；]\s*|\s+/\s+")
_VALUE_WORDS: Final = 4.0
_NAMED_VALUE_WORDS: Final = 8.0
_HEADING_WORDS: Final = 12.0
_REPEATED: Final = 0.5
_SAMPLE: Final = 20_000


class FieldKind(Enum):
    """What a field says about an item."""

    SUBJECT = "subject"
    MAKER = "maker"
    FEATURE = "feature"
    HEADING = "heading"
    BODY = "body"
    IGNORED = "ignored"

    @property
    def is_attribute(self) -> bool:
        """True for fields whose whole value is a name that other items share."""
        return self in (FieldKind.SUBJECT, FieldKind.MAKER, FieldKind.FEATURE)

    @property
    def is_prose(self) -> bool:
        """True for titles and descriptions."""
        return self in (FieldKind.HEADING, FieldKind.BODY)

    def parts(self, text: str) -> list[str]:
        """Return the values in an attribute's text; a path of categories has several."""
        return _PARTS.split(text) if self is FieldKind.SUBJECT else [text]


def recognise(items: Sequence[Item]) -> dict[str, FieldKind]:
    """Tell the kind of every field from its name and its values.

    Parameters
    ----------
    items
        The catalogue; the first 20,000 items are looked at.

    Returns
    -------
    dict of str to FieldKind
        Every field name that occurs in `items`. A field is an attribute when its
        values are short and come back in other items; of the prose, the shortest
        field and other short ones are headings, the rest is body.

    Examples
    --------
    >>> items = [
    ...     Item("1", {"title": "Walnut desk lamp", "brand": "Dewport", "price": "12.50"}),
    ...     Item("2", {"title": "Cordless drill, 18V", "brand": "Dewport", "price": "99"}),
    ... ]
    >>> {name: kind.value for name, kind in recognise(items).items()}
    {'title': 'heading', 'brand': 'maker', 'price': 'ignored'}
    """
    values: defaultdict[str, list[str]] = defaultdict(list)
    for place, item in enumerate(items):
        for name, text in item.fields.items():
            if place < _SAMPLE or name not in values:
                values[name].append(text)
    lengths = {name: fmean(len(spaced(text).split()) for text in texts) for name, texts in values.items()}
    kinds = {name: _kind(name, texts, lengths[name]) for name, texts in values.items()}
    prose = [name for name, kind in kinds.items() if kind.is_prose]
    if prose:
        kinds[min(prose, key=lambda name: lengths[name])] = FieldKind.HEADING
    return kinds


def _kind(name: str, texts: Sequence[str], words: float) -> FieldKind:
    if _IGNORED_NAME.search(name) or _are_numbers(texts):
        return FieldKind.IGNORED
    if words <= _NAMED_VALUE_WORDS and _SUBJECT_NAME.search(name):
        return FieldKind.SUBJECT
    if words <= _NAMED_VALUE_WORDS and _MAKER_NAME.search(name):
        return FieldKind.MAKER
    is_value = words <= _VALUE_WORDS and not _HEADING_NAME.search(name)
    if is_value and len(set(texts)) <= _REPEATED * len(texts):
        return FieldKind.FEATURE
    return FieldKind.HEADING if words <= _HEADING_WORDS else FieldKind.BODY


def _are_numbers(texts: Sequence[str]) -> bool:
    return 2 * sum(1 for text in texts if _NUMBER.fullmatch(text)) > len(texts)
