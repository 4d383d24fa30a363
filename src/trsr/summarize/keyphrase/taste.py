"""Choosing what to say about a user: lasting interests, and the changes of the newest items."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Final

from trsr.summarize.keyphrase.fields import FieldKind
from trsr.summarize.keyphrase.interests import Interests
from trsr.summarize.keyphrase.periods import Periods, divide
from trsr.summarize.keyphrase.phrasebook import Phrasebook
from trsr.summarize.keyphrase.phrases import PHRASE, Feature, parts

_LONG_ENOUGH: Final = 4
_TELLING: Final = 0.5
_FEW: Final = 3
_CHANGES: Final = 2
_RISING_ITEMS: Final = 2.0
_RISING_SHARE: Final = 0.3
_RISING_RATIO: Final = 2.5
_FADING_SHARE: Final = 0.3
_SUBJECTS: Final = 3
_MAKERS: Final = 2
_SUBJECT_SHARE: Final = 0.15
_MAKER_SHARE: Final = 0.12


@dataclass(frozen=True, slots=True)
class Taste:
    """What is worth saying about a user, strongest first, in the words of the catalogue.

    Parameters
    ----------
    subjects
        Categories; where the catalogue has none, phrases that name things.
    makers
        Brands, authors, channels.
    features
        Key phrases and other attributes.
    rising, fading
        What the newest items brought, and what they no longer show.
    """

    subjects: tuple[str, ...] = ()
    makers: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    rising: tuple[str, ...] = ()
    fading: tuple[str, ...] = ()


class Chooser:
    """Chooses what to say; ties go by name.

    Parameters
    ----------
    phrasebook
        Tells how usual a feature is: what everybody has is no taste.
    phrases
        Lasting interests named at most. Changes of taste come on top, two rising and one fading.
    decay
        Weight that an interest keeps when one more block has passed.
    """

    def __init__(self, phrasebook: Phrasebook, phrases: int, decay: float) -> None:
        self._phrasebook = phrasebook
        self._decay = decay
        self._phrases = phrases
        self._has_categories = FieldKind.SUBJECT in phrasebook.kinds.values()

    def choose(self, interests: Interests) -> Taste:
        """Choose lasting interests first, then the changes, and say nothing twice."""
        periods = divide(interests, self._decay)
        rising = self._rising(periods) if periods.past.items > 0 else []
        subjects, makers, features = self._lasting(interests, periods, rising)
        fading = self._fading([*subjects, *makers, *features], periods) if rising else []
        if not subjects and not (makers and self._has_categories):
            subjects = [feature for feature in features if self._phrasebook.is_thing(feature)]
            subjects = (subjects or features)[:_SUBJECTS]
            features = [feature for feature in features if feature not in subjects]
        groups = (subjects, makers, features, rising, fading)
        return Taste(*(tuple(self._phrasebook.surface(feature) for feature in group) for group in groups))

    def _lasting(
        self, interests: Interests, periods: Periods, rising: Sequence[Feature]
    ) -> tuple[list[Feature], list[Feature], list[Feature]]:
        """Return categories, makers and other features that last, each strongest first."""
        items, counts = interests.all.items, interests.counts
        kinds: dict[FieldKind, dict[Feature, float]] = {kind: {} for kind in FieldKind}
        for feature, weight in periods.lasting.items():
            if feature not in rising and counts.get(feature, 0) > 0:
                kinds[self._kind(feature)][feature] = weight
        several = 2 if items > 2 else 1

        def leading(kind: FieldKind, share: float, limit: int) -> list[Feature]:
            strengths = {
                feature: weight * log(1.0 + weight / (items * self._phrasebook.usual(feature)))
                for feature, weight in kinds[kind].items()
                if weight >= share * items and counts[feature] >= several
            }
            return _distinct(_ranked(strengths), [], limit)

        subjects = leading(FieldKind.SUBJECT, _SUBJECT_SHARE, min(_SUBJECTS, self._phrases))
        makers = leading(FieldKind.MAKER, _MAKER_SHARE, min(_MAKERS, self._phrases - len(subjects)))
        said = [*subjects, *makers, *rising]
        features = self._features(kinds[FieldKind.FEATURE], interests, said, len(subjects) + len(makers))
        return subjects, makers, features

    def _features(
        self, weights: Mapping[Feature, float], interests: Interests, said: Sequence[Feature], named: int
    ) -> list[Feature]:
        """Return habits; what was seen once only where there is little else to say."""
        items, counts = interests.all.items, interests.counts
        strengths = {feature: self._strength(feature, weight, items) for feature, weight in weights.items()}
        ranked = _ranked({feature: strength for feature, strength in strengths.items() if strength > 0})
        telling = [feature for feature in ranked if self._phrasebook.telling(feature) >= _TELLING]
        habits = [feature for feature in telling if counts[feature] > 1]
        features = _distinct(habits, said, self._phrases - named)
        few = min(_FEW, self._phrases) - named
        if len(features) < few:
            # A word that was seen once says little beside a category or a brand; a phrase may.
            once = [feature for feature in telling if not named or " " in feature[1]]
            features = _distinct([*features, *once], said, few)
        return features or _distinct([feature for feature in ranked if counts[feature] > 1], said, few)

    def _rising(self, periods: Periods) -> list[Feature]:
        """Return what the recent items have much more of than the ones before them."""
        recent, past = periods.recent, periods.past
        strengths = {}
        for feature, weight in recent.of.items():
            share = weight / recent.items
            before = past.of.get(feature, 0.0) / past.items
            is_new = share >= _RISING_RATIO * before
            if weight >= _RISING_ITEMS and share >= _RISING_SHARE and is_new:
                usual = self._phrasebook.usual(feature) + before
                strengths[feature] = self._novelty(feature) * weight * log(1.0 + share / usual)
        return _distinct(_ranked(strengths), [], _CHANGES)

    def _novelty(self, feature: Feature) -> float:
        """How well a feature names a change: a category best, what things are better than their qualities."""
        kind = self._kind(feature)
        if kind is FieldKind.SUBJECT:
            return 2.0
        names_thing = kind is FieldKind.FEATURE and self._phrasebook.is_thing(feature)
        return self._phrasebook.telling(feature) * (1.0 if names_thing else 0.7)

    def _fading(self, named: Iterable[Feature], periods: Periods) -> list[Feature]:
        """Return the strongest lasting interest that the recent items show nothing of."""
        recent, past = periods.recent, periods.past
        return [
            feature
            for feature in named
            if feature not in recent.of and past.of.get(feature, 0.0) >= _FADING_SHARE * past.items
        ][:1]

    def _strength(self, feature: Feature, weight: float, items: float) -> float:
        """Say how much an interest stands out: what is more than usual of it, and how many times more."""
        usual = items * self._phrasebook.usual(feature)
        return self._phrasebook.telling(feature) * max(weight - usual, 0.0) * log(1.0 + weight / usual)

    def _kind(self, feature: Feature) -> FieldKind:
        if feature[0] == PHRASE:
            return FieldKind.FEATURE
        return self._phrasebook.kinds.get(feature[0], FieldKind.FEATURE)


def _ranked(strengths: Mapping[Feature, float]) -> list[Feature]:
    return sorted(strengths, key=lambda feature: (-strengths[feature], feature))


def _distinct(ranked: Iterable[Feature], said: Iterable[Feature], limit: int) -> list[Feature]:
    """Return the first features, `limit` at most, of which none says again what another one says."""
    chosen: list[Feature] = []
    taken = list(said)
    for feature in ranked:
        if len(chosen) >= limit:
            break
        if not any(_say_the_same(feature, other) for other in taken):
            chosen.append(feature)
            taken.append(feature)
    return chosen


def _say_the_same(one: Feature, other: Feature) -> bool:
    """Say whether one feature repeats the other; "desk lamp" and "floor lamp" do not."""
    joined, other_joined = one[1].replace(" ", ""), other[1].replace(" ", "")
    if min(len(joined), len(other_joined)) >= _LONG_ENOUGH and (
        joined in other_joined or other_joined in joined
    ):
        return True
    words, others = parts(one), parts(other)
    shared = words & others
    if not shared:
        return False
    if shared in (words, others):
        return True
    last = one[1].split()[-1]
    return shared != {last} or last != other[1].split()[-1]
