"""What items mention, and the catalogue's vocabulary of it: fields, phrases, their spellings and weights.

A *feature* is a pair ``(field, key)``: the value of an attribute field such as a brand, or, with an empty
field, a phrase of the prose. Keys are folded spellings, for counting only; people see the spellings that
`Phrasebook` chooses.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import compress
from math import log
from pathlib import Path
from statistics import fmean
from typing import Final

import polars as pl

from trsr.artifacts import read_parquet, write_json, write_parquet
from trsr.errors import ArtifactError
from trsr.prompts.words import joined, spaced
from trsr.records import Item
from trsr.summarize.keyphrase.text import (
    COLOURS,
    CONNECTORS,
    OPENERS,
    STOP_WORDS,
    SUFFIXES,
    Run,
    clean,
    fold,
    is_measure,
    runs,
)

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
    """A feature of one item, as the item writes it; `weight` is 1 but in a description.

    A hashtag that `is_label` is nothing but this phrase. A phrase that `is_thing` says what the item is: no
    word follows that belongs to it, as "lamp" and "desk lamp" in "steel desk lamp, 18V".
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

    A field that is not in `kinds` is read as a heading.

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
    """Tell the kind of every field of a catalogue from its name and its values.

    The first 20,000 items are looked at. A field is an attribute when its values are short and come back in
    other items; of the prose, the shortest field and other short ones are headings, the rest is body.

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


_FEATURES_PER_ITEM: Final = 32
_SMALL: Final = 50
_MEDIUM: Final = 2_000
_COHESION: Final = 0.3
_SUBSUMED: Final = 0.8
_LOWER_SHARE: Final = 0.12
_LOWER_SHARE_OF_NAMES: Final = 0.6
_SELDOM: Final = 20
_THING_SHARE: Final = 0.4
_LABELLED: Final = 0.2
_LABEL_SHARE: Final = 0.1
_NOT_A_LABEL: Final = 0.4
_LENGTH_BONUS: Final = (1.0, 1.4, 1.6, 1.7)


_FEATURES: Final = {
    "field": pl.String, "key": pl.String, "usual": pl.Float64, "surface": pl.String, "is_thing": pl.Boolean,
    "telling": pl.Float64,
}  # fmt: skip
_REMEMBERED: Final = 100_000
_TABLE: Final = "features.parquet"
_KINDS: Final = "fields.json"


class Phrasebook:
    """Phrases and attributes of all items of a catalogue.

    Examples
    --------
    >>> titles = ["Walnut desk lamp", "Walnut shelf", "Steel shelf"]
    >>> book = Phrasebook(Item(str(place), {"title": title}) for place, title in enumerate(titles))
    >>> book.surface(("", "shelf")), book.usual(("", "shelf")) > book.usual(("", "lamp"))
    ('shelf', True)
    """

    def __init__(self, items: Iterable[Item]) -> None:
        listed = list(items)
        self.kinds = recognise(listed)
        found = [mentions(item, self.kinds) for item in listed]
        self._size = max(len(listed), 1)
        self._usual = self._count(found)
        self._surfaces = _surfaces(found, self._usual)
        self._things = _things(found, self._usual)
        self._telling = _telling(found, self._usual, self._size)
        self._known: dict[str, tuple[Mapping[str, str], Mapping[Feature, float]]] = {}

    def save(self, folder: Path) -> None:
        """Write all that was learnt: a table of features, and what the fields are."""
        rows = [
            (*feature, usual, self._surfaces[feature], feature in self._things, self._telling.get(feature))
            for feature, usual in self._usual.items()
        ]
        write_parquet(pl.DataFrame(rows, schema=_FEATURES, orient="row"), folder / _TABLE)
        kinds = {name: kind.value for name, kind in self.kinds.items()}
        write_json({"items": self._size, "kinds": kinds}, folder / _KINDS)

    @classmethod
    def load(cls, folder: Path) -> Phrasebook:
        """Read what `save` wrote; raises ArtifactError when it is missing or damaged."""
        book = cls.__new__(cls)
        try:
            told = json.loads((folder / _KINDS).read_text(encoding="utf-8"))
            book.kinds = {name: FieldKind(kind) for name, kind in told["kinds"].items()}
            book._size = int(told["items"])
            table = read_parquet(folder / _TABLE).select(*_FEATURES)
        except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
            message = f"{folder}: not the vocabulary of a catalogue ({error}); delete it and run again"
            raise ArtifactError(message) from error
        field, key, usual, surface, is_thing, telling = (table[name].to_list() for name in _FEATURES)
        features = list(zip(field, key, strict=True))
        book._usual = dict(zip(features, usual, strict=True))
        book._surfaces = dict(zip(features, surface, strict=True))
        book._things = frozenset(compress(features, is_thing))
        book._telling = {
            feature: value for feature, value in zip(features, telling, strict=True) if value is not None
        }
        book._known = {}
        return book

    def features(self, item: Item) -> Mapping[Feature, float]:
        """Return an item's features with their weights; the item need not be of the catalogue."""
        known = self._known.get(item.id)
        if known is None or known[0] != item.fields:
            known = item.fields, self._weigh(mentions(item, self.kinds))
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[item.id] = known
        return known[1]

    def usual(self, feature: Feature) -> float:
        """Weight of a feature in a usual item.

        Rare features are taken for a little less rare: what stands in one or two of
        many items says more about those items than about a taste.
        """
        rare = min(10.0, self._size / 20)
        return (self._usual.get(feature, 0.0) + rare) / self._size

    def telling(self, feature: Feature) -> float:
        """How well a feature names an interest: longer phrases do, and hashtags where there are such."""
        return self._telling.get(feature, 1.0)

    def standing(self, feature: Feature) -> float:
        """How much one mention says, whoever makes it: what goes first when room is short."""
        if feature not in self._usual:
            return 1.0
        return self.telling(feature) * log(1 + 1 / self.usual(feature))

    def is_thing(self, feature: Feature) -> bool:
        """Say whether a phrase names what items are, such as "desk lamp", rather than of what kind."""
        return feature in self._things

    def surface(self, feature: Feature) -> str:
        """Write a feature as people do; a feature of another catalogue is written as its key."""
        return self._surfaces.get(feature, feature[1])

    def _count(self, found: Sequence[Sequence[Mention]]) -> dict[Feature, float]:
        """Return the summed weight of every feature that is worth counting."""
        vocabulary = _vocabulary(found, self._size)
        usual: dict[Feature, float] = {}
        for mention in (mention for mentioned in found for mention in mentioned):
            if mention.feature in vocabulary:
                usual[mention.feature] = usual.get(mention.feature, 0.0) + mention.weight
        return usual

    def _weigh(self, mentioned: Iterable[Mention]) -> dict[Feature, float]:
        """Keep the item's attributes and its most telling phrases."""
        weights = {mention.feature: mention.weight for mention in mentioned if mention.feature in self._usual}
        if len(weights) <= _FEATURES_PER_ITEM:
            return weights
        ranked = sorted(
            weights, key=lambda feature: (not feature[0], -weights[feature] * self.standing(feature), feature)
        )
        return {feature: weights[feature] for feature in ranked[:_FEATURES_PER_ITEM]}


def _vocabulary(found: Sequence[Sequence[Mention]], size: int) -> frozenset[Feature]:
    """Return the features worth counting.

    They stand in several items, and not in descriptions alone: boilerplate does. A
    phrase's words belong together, and it is not a mere part of a longer phrase.
    """
    items = Counter(mention.feature for mentioned in found for mention in mentioned)
    headings = {mention.feature for mentioned in found for mention in mentioned if mention.is_in_heading}
    least = 1 if size < _SMALL else 2 if size < _MEDIUM else 3
    frequent = {feature for feature in headings if items[feature] >= least and feature[1] not in OPENERS}
    whole = {
        feature
        for feature in frequent
        if feature[0] or size < _SMALL or _belongs_together(feature[1], items, size)
    }
    return frozenset(whole - _fragments(whole, items))


def _belongs_together(key: str, items: Mapping[Feature, int], size: int) -> bool:
    """Say whether words stand together more often than chance has it (normalised mutual information)."""
    counts = [items[PHRASE, word] for word in key.split(" ") if (PHRASE, word) in items]
    if len(counts) < 2:
        return True
    together = items[PHRASE, key] / size
    if together >= 1:
        return False
    information = log(together) - sum(log(count / size) for count in counts)
    return information >= _COHESION * -log(together) * (len(counts) - 1)


def _fragments(features: Iterable[Feature], items: Mapping[Feature, int]) -> set[Feature]:
    """Return the phrases that hardly occur but as a part of one longer phrase."""
    fragments = set()
    for field, key in features:
        count = items[field, key]
        if field or count < 2:
            continue
        words = key.split(" ")
        for length in range(1, len(words)):
            for start in range(len(words) - length + 1):
                part = (PHRASE, " ".join(words[start : start + length]))
                if count >= _SUBSUMED * items.get(part, 0):
                    fragments.add(part)
    return fragments


def _surfaces(found: Iterable[Iterable[Mention]], wanted: Container[Feature]) -> dict[Feature, str]:
    spellings: defaultdict[Feature, Counter[str]] = defaultdict(Counter)
    for mention in (mention for mentioned in found for mention in mentioned):
        if mention.feature in wanted or " " not in mention.feature[1]:
            spellings[mention.feature][mention.surface] += 1
    words = {feature: _spelling(counts, frozenset()) for feature, counts in spellings.items()}
    lower = frozenset(
        word for feature, word in words.items() if feature[0] == PHRASE and word == word.lower()
    )
    return {feature: _spelling(spellings[feature], lower) for feature in words if feature in wanted}


def _things(found: Iterable[Iterable[Mention]], wanted: Container[Feature]) -> frozenset[Feature]:
    """Return the phrases that say what an item is, rather than of what kind."""
    things = Counter(mention.feature for mentioned in found for mention in mentioned if mention.is_thing)
    counts = Counter(
        mention.feature for mentioned in found for mention in mentioned if mention.feature in wanted
    )
    return frozenset(
        feature
        for feature, count in counts.items()
        if things[feature] >= _THING_SHARE * count and feature[1] not in COLOURS
    )


def _spelling(counts: Counter[str], lower_words: frozenset[str]) -> str:
    """Choose the spelling that most items use, in lower case when that is no rare choice.

    Titles are written with capitals; a name is never written without.
    """
    groups: Counter[str] = Counter()
    for text, count in counts.items():
        groups[text.lower()] += count
    lower = _most_common(groups)
    common = _most_common({text: count for text, count in counts.items() if text.lower() == lower})
    has_inner_capitals = any(letter.isupper() for word in common.split(" ") for letter in word[1:])
    least = (_LOWER_SHARE_OF_NAMES if has_inner_capitals else _LOWER_SHARE) * groups[lower]
    is_seldom = groups[lower] < _SELDOM and not has_inner_capitals
    if counts[lower] >= least or (is_seldom and lower_words.issuperset(lower.split(" "))):
        return lower
    return common


def _most_common(counts: Mapping[str, int]) -> str:
    return min(counts, key=lambda text: (-counts[text], text))


def _telling(
    found: Sequence[Sequence[Mention]], usual: Mapping[Feature, float], size: int
) -> dict[Feature, float]:
    labels = Counter(mention.feature for mentioned in found for mention in mentioned if mention.is_label)
    labelled = sum(1 for mentioned in found if any(mention.is_label for mention in mentioned))
    has_labels = labelled >= _LABELLED * size
    telling = {}
    for feature, weight in usual.items():
        if feature[0] == PHRASE:
            bonus = _LENGTH_BONUS[min(feature[1].count(" "), len(_LENGTH_BONUS) - 1)]
            is_label = not has_labels or labels[feature] >= _LABEL_SHARE * weight
            telling[feature] = bonus if is_label else bonus * _NOT_A_LABEL
    return telling
