"""Putting a taste into plain sentences, in the words of the domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from trsr.config.summary import Domain
from trsr.summarize.keyphrase.taste import Taste


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
    """Say a taste in one to three sentences.

    Parameters
    ----------
    taste
        What to say.
    domain
        Chooses the words.

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
