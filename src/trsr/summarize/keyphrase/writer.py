"""The built-in writer: which interests and changes to tell, and in what words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from math import log
from typing import TYPE_CHECKING, Final

import polars as pl

from trsr.config import Config
from trsr.config.summary import Domain
from trsr.config.summary import KeyphraseWriter as KeyphraseSettings
from trsr.errors import ConfigError, WriterError
from trsr.records import ITEM, Block, Item, Summary, Usage
from trsr.summarize.keyphrase.interests import Interests, Periods, divide, dump, join, load, observe, trim
from trsr.summarize.keyphrase.vocabulary import PHRASE, Feature, FieldKind, Phrasebook, parts

if TYPE_CHECKING:  # who writes key phrases needs no model's libraries
    from trsr.summarize.sections import Profile

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

    `subjects` are categories or, where the catalogue has none, phrases that name things; `makers` brands,
    authors, channels; `features` key phrases and other attributes. `rising` and `fading` are what the newest
    items brought, and what they no longer show.
    """

    subjects: tuple[str, ...] = ()
    makers: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    rising: tuple[str, ...] = ()
    fading: tuple[str, ...] = ()


class Chooser:
    """Chooses what to say; ties go by name.

    The phrasebook tells how usual a feature is: what everybody has is no taste. At most `phrases` lasting
    interests are named; changes of taste come on top, two rising and one fading. An interest keeps the weight
    `decay` when one more block has passed.
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


@dataclass(frozen=True, slots=True)
class Words:
    """How one domain speaks of choosing, and of what makes one choose."""

    chooses: str
    seeks: str


_WORDS: Final[Mapping[Domain, Words]] = {
    "shopping": Words(chooses="Mostly buys", seeks="looks for"),
    "news": Words(chooses="Mostly reads about", seeks="follows"),
    "video": Words(chooses="Mostly watches videos about", seeks="also likes"),
    "generic": Words(chooses="Mostly chooses", seeks="likes"),
}

NOTHING: Final = "No clear preference can be read from the item texts."
"""What is said of a user whose items say nothing."""


def write(taste: Taste, domain: Domain) -> str:
    """Say a taste in one to three sentences, in the words of a domain.

    Examples
    --------
    >>> write(Taste(("lighting",), ("Dewport",), ("walnut", "18V"), ("tools",), ("lamps",)), "shopping")
    'Mostly buys lighting, often by Dewport; looks for walnut and 18V. Lately turning to tools; less often
    lamps.'
    >>> write(Taste(subjects=("Naruto", "mobile games"), features=("street food",)), "video")
    'Mostly watches videos about Naruto and mobile games; also likes street food.'
    """
    sentences = [_lasting(taste, _WORDS[domain]), _changes(taste)]
    return " ".join(sentence for sentence in sentences if sentence) or NOTHING


def enumerate_words(parts: Sequence[str]) -> str:
    """Join words as a sentence does.

    Examples
    --------
    >>> enumerate_words(["oak", "ash", "elm"])
    'oak, ash and elm'
    """
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def _lasting(taste: Taste, words: Words) -> str:
    clauses = [f"{words.chooses} {enumerate_words(taste.subjects)}"] if taste.subjects else []
    if taste.makers:
        makers = enumerate_words(taste.makers)
        clauses = [f"{clauses[0]}, often by {makers}" if clauses else f"{words.chooses} items by {makers}"]
    if taste.features:
        clauses.append(f"{words.seeks} {enumerate_words(taste.features)}")
    sentence = "; ".join(clauses)
    return f"{sentence[0].upper()}{sentence[1:]}." if sentence else ""


def _changes(taste: Taste) -> str:
    if not taste.rising:
        return ""
    rising = f"Lately turning to {enumerate_words(taste.rising)}"
    return f"{rising}; less often {enumerate_words(taste.fading)}." if taste.fading else f"{rising}."


class KeyphraseWriter:
    """Writes summaries from what a user's items have more of than the catalogue.

    A summary's state holds decayed weights of phrases and attribute values. `update` and `combine` join
    states: they never see the items of older blocks again. Reading block by block and combining block
    summaries weigh interests alike, so both paradigms agree but for features that were dropped to keep the
    state small.

    Items that are not in the catalogue (``item_id`` and one column per text field) can be summarised too, by
    the phrases they share with it. A summary names at most `phrases` lasting interests; up to three changes
    of taste come on top. An interest keeps the weight `decay`, in (0, 1], when one more block has passed.
    `items` may also be the vocabulary that was learnt from a catalogue.
    Raises ConfigError when `decay` or `phrases` is out of its rule.

    Examples
    --------
    >>> titles = ["Desk lamp, walnut", "Floor lamp, walnut", "Steel shelf", "Steel bolt", "Oak table"]
    >>> categories = ["lighting", "lighting", "storage", "tools", "tables"]
    >>> ids = ["1", "2", "3", "4", "5"]
    >>> catalogue = pl.DataFrame({"item_id": ids, "title": titles, "category": categories})
    >>> writer = KeyphraseWriter(catalogue, domain="shopping")
    >>> history = [Item("", {"title": title, "category": "lighting"}) for title in titles[:2]]
    >>> import asyncio
    >>> asyncio.run(writer.describe(Block(tuple(history), 0))).text
    'Mostly buys lighting; looks for lamp and walnut.'
    """

    name = "keyphrase"

    def __init__(
        self,
        items: pl.DataFrame | Phrasebook,
        domain: Domain = "generic",
        decay: float = 0.6,
        phrases: int = 6,
    ) -> None:
        if not 0 < decay <= 1:
            message = f"decay must be above 0 and at most 1, got {decay}; 1 forgets nothing"
            raise ConfigError(message)
        if phrases < 1:
            message = f"phrases must be at least 1, got {phrases}; it is how many interests a summary names"
            raise ConfigError(message)
        self._phrasebook = items if isinstance(items, Phrasebook) else Phrasebook(items_of(items))
        self._chooser = Chooser(self._phrasebook, phrases, decay)
        self._domain: Domain = domain
        self._decay = decay

    async def describe(self, block: Block, *, user: str = "") -> Summary:
        """Summarise one block alone."""
        return self._summary(self._observe(block))

    async def update(self, summary: Summary, block: Block, *, user: str = "") -> Summary:
        """Join a summary's state with what the next block shows.

        Raises WriterError when the summary has no state, because another writer wrote it: its text does not
        say how strong an interest is.
        """
        return self._joined([_state(summary), self._observe(block)])

    async def combine(self, summaries: Sequence[Summary], *, user: str = "") -> Summary:
        """Join the states of summaries, oldest first.

        Raises WriterError when there are none, or one of them has no state, because another writer wrote it.
        """
        return self._joined([_state(summary) for summary in summaries])

    async def edit(self, profile: Profile, block: Block, *, user: str = "") -> Summary:
        """Bring a profile in sections up to date with what the next block shows; nothing shows dislikes."""
        seen = self._observe(block)
        interests = join(load(profile.state), seen, self._decay) if profile.state else seen
        kept = trim(interests, self._phrasebook.standing)
        taste = self._chooser.choose(kept)
        told = {"lasting": (*taste.subjects, *taste.features), "lately": taste.rising, "brands": taste.makers}
        return Summary(profile.changes_to(told), dump(kept), Usage(calls=1))

    def _observe(self, block: Block) -> Interests:
        return observe(self._phrasebook.features(item) for item in block.items)

    def _joined(self, parts: Sequence[Interests]) -> Summary:
        if not parts:
            message = "combine got no summaries; give at least one"
            raise WriterError(message)
        return self._summary(reduce(lambda older, newer: join(older, newer, self._decay), parts))

    def _summary(self, interests: Interests) -> Summary:
        kept = trim(interests, self._phrasebook.standing)
        text = write(self._chooser.choose(kept), self._domain)
        return Summary(text, dump(kept), Usage(calls=1))


def open_writer(config: Config, items: pl.DataFrame | Phrasebook, budget: object) -> KeyphraseWriter:
    """Make the writer that the configuration describes; it pays for nothing."""
    settings = config.summary.writer
    assert isinstance(settings, KeyphraseSettings)
    return KeyphraseWriter(items, config.prompt.domain, decay=settings.decay, phrases=settings.phrases)


def items_of(frame: pl.DataFrame) -> Iterator[Item]:
    """Give the items of a table: ``item_id``, and one column per text field."""
    for row in frame.iter_rows(named=True):
        yield Item(row[ITEM], {name: text for name, text in row.items() if name != ITEM and text})


def _state(summary: Summary) -> Interests:
    if not summary.state:
        message = (
            "the keyphrase writer can't go on from a summary that another writer wrote, "
            f"got {summary.text[:60]!r}; write this user's summary anew"
        )
        raise WriterError(message)
    return load(summary.state)
