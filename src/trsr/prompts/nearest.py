"""Which items of a history are like a candidate, by the words that both have."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Self

from trsr.artifacts import replacing
from trsr.errors import ArtifactError
from trsr.prompts.words import words
from trsr.records import Item

ALIKE: Final = 9
"""How alike equal texts are; texts without a common word are 0."""
_CACHED_TEXTS: Final = 1 << 17
_CACHED_HISTORIES: Final = 1 << 8

_Vector = dict[str, float]


@dataclass(frozen=True, slots=True)
class Near:
    """What a history has that is like a candidate.

    `items` are the most alike first, of equal ones the newest, none without a common word; `degree` is how
    alike the first is, 0 to 9.
    """

    items: tuple[Item, ...] = ()
    degree: int = 0


class Nearness:
    """How alike items are: the cosine of their texts' words, weighed by rarity in a catalogue.

    A word's weight is ``ln((1 + n) / (1 + n_w)) + 1``, where n_w of n texts have it, as in TF-IDF; words that
    the catalogue lacks are the rarest.

    Parameters
    ----------
    texts
        How many texts the catalogue has.
    having
        How many of them have a word.

    Examples
    --------
    >>> drill, mug, bits = (Item(*each) for each in [("1", {"t": "cordless drill"}), ("2", {"t": "blue mug"}),
    ...     ("3", {"t": "drill bits"})])
    >>> near = Nearness.of([drill, mug, bits]).find(bits, [mug, drill, mug], 2)
    >>> [item.id for item in near.items], near.degree
    (['1'], 6)
    """

    def __init__(self, texts: int, having: dict[str, int]) -> None:
        self._texts = texts
        self._having = having
        self._vector = lru_cache(maxsize=_CACHED_TEXTS)(self._weigh)
        self._index = lru_cache(maxsize=_CACHED_HISTORIES)(self._gather)

    @classmethod
    def of(cls, catalogue: Iterable[Item]) -> Self:
        """Count the words of a catalogue."""
        texts = [set(_words(_text(item))) for item in catalogue]
        return cls(len(texts), dict(Counter(word for text in texts for word in text)))

    def find(self, candidate: Item, history: Sequence[Item], count: int) -> Near:
        """Find the `count` items of a history, oldest first, that are most like a candidate."""
        texts = tuple(map(_text, history))
        postings = self._index(texts)
        alike: defaultdict[int, float] = defaultdict(float)
        for word, weight in self._vector(_text(candidate)).items():
            for place, other in postings.get(word, ()):
                alike[place] += weight * other
        if not alike:
            return Near()
        order = sorted(alike, key=lambda place: (-alike[place], -place))
        # Likeness is small as a rule: the root spreads it, so that a tenth of it is told from none.
        degree = min(ALIKE, round((ALIKE + 1) * math.sqrt(alike[order[0]]) - 0.5))
        distinct = {texts[place]: history[place] for place in reversed(order)}
        return Near(tuple(reversed(distinct.values()))[:count], degree)

    def save(self, path: Path) -> None:
        """Write the counts."""
        with replacing(path) as temporary:
            told = {"texts": self._texts, "having": self._having}
            temporary.write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; raises `ArtifactError` where it can't be read."""
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            return cls(int(told["texts"]), {str(word): int(count) for word, count in told["having"].items()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            message = f"{path}: not a readable file of words ({error}); train again"
            raise ArtifactError(message) from error

    def forget(self) -> None:
        """Forget what was built of users."""
        self._index.cache_clear()

    def _weigh(self, text: str) -> _Vector:
        weights = {
            word: (1 + math.log(count)) * (math.log((1 + self._texts) / (1 + self._having.get(word, 0))) + 1)
            for word, count in Counter(_words(text)).items()
        }
        length = math.sqrt(sum(weight * weight for weight in weights.values()))
        return {word: weight / length for word, weight in weights.items()}

    def _gather(self, texts: tuple[str, ...]) -> dict[str, list[tuple[int, float]]]:
        postings: dict[str, list[tuple[int, float]]] = {}
        for place, text in enumerate(texts):
            for word, weight in self._vector(text).items():
                postings.setdefault(word, []).append((place, weight))
        return postings


def _text(item: Item) -> str:
    return "\n".join(item.fields.values())


def _words(text: str) -> list[str]:
    return words(text.lower())
