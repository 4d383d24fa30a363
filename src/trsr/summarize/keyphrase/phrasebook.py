"""The phrasebook of a catalogue: what its items are about, how usual that is, and how people write it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from math import log
from typing import Final

from trsr.records import Item
from trsr.summarize.keyphrase.fields import recognise
from trsr.summarize.keyphrase.phrases import PHRASE, Feature, Mention, mentions
from trsr.summarize.keyphrase.stopwords import COLOURS, OPENERS

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


class Phrasebook:
    """Phrases and attributes of all items of a catalogue.

    Parameters
    ----------
    items
        The catalogue.

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
        self._standing = {
            feature: self.telling(feature) * log(1 + 1 / self.usual(feature)) for feature in self._usual
        }
        self._known = {
            item.id: (item.fields, self._weigh(mentioned))
            for item, mentioned in zip(listed, found, strict=True)
        }

    def features(self, item: Item) -> Mapping[Feature, float]:
        """Return an item's features with their weights; the item need not be of the catalogue."""
        known = self._known.get(item.id)
        if known is not None and known[0] == item.fields:
            return known[1]
        return self._weigh(mentions(item, self.kinds))

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
        return self._standing.get(feature, 1.0)

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
