"""Finding what one item mentions: attribute values and phrases of its prose.

A *feature* is a pair ``(field, key)``: the value of an attribute field such as a
brand, or, with an empty field, a phrase of the prose. Keys are folded spellings,
for counting only; people see the spellings that `trsr.summarize.keyphrase.phrasebook` chooses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from trsr.prompts.words import joined, spaced
from trsr.records import Item
from trsr.summarize.keyphrase.fields import FieldKind
from trsr.summarize.keyphrase.stopwords import CONNECTORS, OPENERS, STOP_WORDS, SUFFIXES
from trsr.summarize.keyphrase.words import Run, clean, fold, is_measure, runs

Feature = tuple[str, str]
"""Field name (empty for a phrase of prose) and folded key."""

PHRASE: Final = ""
"""The field of a feature that is a phrase of prose."""

LONGEST_PHRASE: Final = 4
"""Words of the longest phrase."""

_LONGEST_WORD: Final = 24
_LONGEST_VALUE: Final = 40
_BODY_WEIGHT: Final = 0.3


@dataclass(frozen=True, slots=True)
class Mention:
    """A feature of one item, as the item writes it.

    Parameters
    ----------
    feature
        What is mentioned.
    weight
        1 for an attribute and in a title, less in a description.
    surface
        The item's own spelling.
    is_label
        True when a hashtag is nothing but this phrase.
    is_thing
        True when no word follows that belongs to it: in "steel desk lamp, 18V" that
        is so for "lamp" and "desk lamp", which say what the item is.
    """

    feature: Feature
    weight: float
    surface: str
    is_label: bool = False
    is_thing: bool = False

    @property
    def is_in_heading(self) -> bool:
        """True unless only a description says so."""
        return self.weight > _BODY_WEIGHT


def mentions(item: Item, kinds: Mapping[str, FieldKind]) -> list[Mention]:
    """Return all that an item mentions, every feature once, with its strongest mention.

    Parameters
    ----------
    item
        The item.
    kinds
        Kind of each field; a field that is not in it is read as a heading.

    Examples
    --------
    >>> item = Item("1", {"title": "Desk lamp, the 12 best", "brand": "Dewport"})
    >>> [mention.feature for mention in mentions(item, {"brand": FieldKind.MAKER})]
    [('', 'desk'), ('', 'lamp'), ('', 'desk lamp'), ('brand', 'dewport')]
    """
    found: dict[Feature, Mention] = {}
    for name, text in item.fields.items():
        for mention in _of_field(name, text, kinds.get(name, FieldKind.HEADING)):
            earlier = found.get(mention.feature)
            if earlier is None or (earlier.weight, earlier.is_label) < (mention.weight, mention.is_label):
                found[mention.feature] = mention
    own = [feature[1] for feature in found if kinds.get(feature[0]) is FieldKind.MAKER]
    return [
        mention
        for feature, mention in found.items()
        if feature[0] or not any(_names_maker(feature[1], maker) for maker in own)
    ]


def parts(feature: Feature) -> frozenset[str]:
    """Return the words of a feature, those inside hyphens and underscores too."""
    return frozenset(spaced(feature[1]).replace("-", " ").replace("_", " ").split())


def _names_maker(key: str, maker: str) -> bool:
    """Say whether a phrase repeats the maker's name, which the maker's field says already."""
    folded = " ".join(fold(word) for word in spaced(maker).split())
    return f" {folded} " in f" {key} " or f" {key} " in f" {folded} "


def _of_field(name: str, text: str, kind: FieldKind) -> Iterator[Mention]:
    if kind is FieldKind.IGNORED:
        return
    if kind.is_attribute:
        yield from _values(name, text, kind)
        return
    weight = _BODY_WEIGHT if kind is FieldKind.BODY else 1.0
    for run in runs(text):
        yield from _phrases(run, weight)


def _values(name: str, text: str, kind: FieldKind) -> Iterator[Mention]:
    for part in kind.parts(text):
        value = clean(part)
        if 1 < len(value) <= _LONGEST_VALUE and not is_measure(value):
            yield Mention((name, value.casefold()), 1.0, value)


def _phrases(run: Run, weight: float) -> Iterator[Mention]:
    """Yield the phrases of a run: no stop word or number at an edge, only connectors inside."""
    words = run.words
    keys = [fold(word) for word in words]
    edge = [_may_stand_at_edge(word) for word in words]
    opener = [word.casefold() in OPENERS for word in words]
    suffix = [word in SUFFIXES for word in words]
    inside = [edge[place] or word.casefold() in CONNECTORS for place, word in enumerate(words)]
    for length in range(1, min(LONGEST_PHRASE, len(words)) + 1):
        for start in range(len(words) - length + 1):
            end = start + length
            # An opener alone is counted too: how usual it is tells whether it belongs to what follows.
            opens = (edge[start] and not suffix[start]) or (
                opener[start] and (length == 1 or edge[start + 1])
            )
            closes = length == 1 or (edge[end - 1] and all(inside[start + 1 : end]))
            if not (opens and closes) or len(set(keys[start:end])) < length:
                continue
            surface = joined(words[start:end])
            is_label = run.is_label and length == len(words)
            is_thing = end == len(words) or not inside[end]
            yield Mention((PHRASE, " ".join(keys[start:end])), weight, surface, is_label, is_thing)


def _may_stand_at_edge(word: str) -> bool:
    lower = word.casefold().replace("’", "'")
    if (
        lower in STOP_WORDS
        or lower.removesuffix("'s") in STOP_WORDS
        or len(word) > _LONGEST_WORD
        or is_measure(word)
    ):
        return False
    is_acronym = len(word) == 2 and word.upper() == word
    return len(word) > 2 or is_acronym or not word.isascii()
