"""Numbers, names and the task in the form in which a person reads them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from trsr.baselines.base import Baseline
from trsr.baselines.registry import baseline_class
from trsr.errors import ConfigError
from trsr.registry import BASELINES, is_dotted, parse

_NAMES: Final = {
    "tallrec": "LM, whole history",
    "hierarchical": "LM, hierarchical summary",
    "recurrent": "LM, recurrent summary",
    "fused": "Fused ranker",
    "language_model": "Language model",
    "cold item": "Item that training never saw",
}
_INSIDE: Final = {
    "tallrec": "the language model over the whole history",
    "hierarchical": "the language model with hierarchical summaries",
    "recurrent": "the language model with recurrent summaries",
    "fused": "the fused ranker",
}
_DESCRIPTIONS: Final = {
    "tallrec": "The language model reads the whole history as text and answers yes or no.",
    "hierarchical": "The language model reads a summary made of block summaries, and the recent items.",
    "recurrent": "The language model reads a summary updated block by block, and the recent items.",
    "fused": "A weighted sum of the language model and other systems, fitted on validation users.",
}
_SAMPLERS: Final = {
    "uniform": "uniform negatives",
    "popularity": "popularity-proportional negatives",
    "catalogue": "the whole catalogue",
}
_SPLITS: Final = {"test": "Test users", "valid": "Validation users", "train": "Training users"}
_NONE: Final = "–"


def system_name(name: str) -> str:
    """Name of a system for the page; an unknown one is shown as it is.

    Examples
    --------
    >>> system_name("tfidf"), system_name("bm25(k1=2.0)"), system_name("TRSR (compact)")
    ('TF-IDF similarity', 'BM25 similarity (k1=2.0)', 'TRSR (compact)')
    """
    return _NAMES.get(name) or _of_class(name, lambda found: found.label) or name


def inside(name: str) -> str:
    """Name of a system inside a sentence."""
    return _INSIDE.get(name) or _of_class(name, lambda found: found.inside) or system_name(name)


def _of_class(name: str, text: Callable[[type[Baseline]], str]) -> str:
    """Read what a baseline's class says of itself, with the settings in the name; empty for other names."""
    if name.partition("(")[0] not in BASELINES and not is_dotted(name):
        return ""
    try:
        _, settings = parse(name)
        said = text(baseline_class(name))
    except ConfigError:  # not a baseline's name, or its module isn't on this machine
        return ""
    inside = ", ".join(f"{key}={value}" for key, value in settings.items())
    return f"{said} ({inside})" if said and inside else said


def sampler_name(sampler: str) -> str:
    """Name of a way of drawing candidates, inside a sentence.

    Examples
    --------
    >>> sampler_name("uniform"), sampler_name("by month")
    ('uniform negatives', 'negatives “by month”')
    """
    return _SAMPLERS.get(sampler, f"negatives “{sampler}”")


def system_description(name: str) -> str:
    """One sentence about a system that the report knows; empty for any other.

    Examples
    --------
    >>> system_description("popularity")
    'The items that most users took stand first, the same for everybody.'
    """
    return _DESCRIPTIONS.get(name) or _of_class(name.partition("(")[0], lambda found: found.description)


def split_name(split: str) -> str:
    """Name of a split for the page."""
    return _SPLITS.get(split, split)


def decimal(value: float) -> str:
    """Three digits after the point; a dash for a number that could not be computed.

    Examples
    --------
    >>> decimal(0.41249), decimal(float("nan"))
    ('0.412', '–')
    """
    return _NONE if math.isnan(value) else f"{value:.3f}"


def signed(value: float) -> str:
    """Difference with its sign and three digits.

    Examples
    --------
    >>> signed(0.0211), signed(-0.0211), signed(0.0), signed(-0.0001)
    ('+0.021', '−0.021', '0.000', '0.000')
    """
    if math.isnan(value):
        return _NONE
    text = f"{abs(value):.3f}"
    return text if float(text) == 0 else f"{'+' if value > 0 else '−'}{text}"


def p_value(value: float | None) -> str:
    """P of a test with its relation, as it stands in a sentence; a dash for none.

    Examples
    --------
    >>> p_value(0.0312), p_value(0.00002), p_value(1.0), p_value(None)
    ('= 0.031', '< 0.001', '= 1.000', '–')
    """
    if value is None or math.isnan(value):
        return _NONE
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def percent(value: float) -> str:
    """Share as a whole percentage, with a digit more below 5%.

    Examples
    --------
    >>> percent(0.4129), percent(0.0132), percent(0.0), percent(1.0)
    ('41%', '1.3%', '0%', '100%')
    """
    if math.isnan(value):
        return _NONE
    return f"{value:.0%}" if value == 0 or value >= 0.0495 else f"{value:.1%}"


def count(value: int) -> str:
    """Whole number with separators for thousands.

    Examples
    --------
    >>> count(39949)
    '39,949'
    """
    return f"{value:,}"


def amount(value: float | None) -> str:
    """Count or sum of money; a dash for one that isn't known.

    Examples
    --------
    >>> amount(39949), amount(0.1234), amount(None)
    ('39,949', '0.1234', '–')
    """
    if value is None or math.isnan(value):
        return _NONE
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4f}"


def counted(value: int, noun: str) -> str:
    """Whole number and its noun, in the plural unless there is one.

    Examples
    --------
    >>> counted(1, "user"), counted(2, "user")
    ('1 user', '2 users')
    """
    return f"{value:,} {noun}" if value == 1 else f"{value:,} {noun}s"


def duration(seconds: float) -> str:
    """Time span in the largest unit that fits.

    Examples
    --------
    >>> duration(0.314), duration(42.04), duration(200), duration(7500)
    ('0.31 s', '42.0 s', '3 min 20 s', '2 h 5 min')
    """
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def rank(value: float) -> str:
    """Rank, with its half when a tie gives one.

    Examples
    --------
    >>> rank(2.0), rank(2.5)
    ('2', '2.5')
    """
    return f"{value:g}"


def listed(names: Sequence[str]) -> str:
    """Names joined for a sentence.

    Examples
    --------
    >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def shortened(label: str, chars: int = 26) -> str:
    """Label of a figure, cut where there is no more room.

    Examples
    --------
    >>> shortened("SASRec"), shortened("SASRec from text", 9)
    ('SASRec', 'SASRec f…')
    """
    return label if len(label) <= chars else label[: chars - 1] + "…"


def capitalised(text: str) -> str:
    """Text with a capital at its start; the rest stays as it is.

    Examples
    --------
    >>> capitalised("the SASRec of 2018")
    'The SASRec of 2018'
    """
    return text[:1].upper() + text[1:]


_NOUNS: Final = {"news": ("article", "read"), "video": ("video", "watched")}
_DRAWN: Final = {
    "uniform": "drawn evenly from {}",
    "popularity": "drawn from {} in proportion to how popular they are",
}


def task(domain: str, items: int | None, sampler: str, negatives: int, split: str, users: int) -> str:
    """Say what was put in order, in the words of the domain.

    `domain` is ``shopping``, ``news``, ``video`` or ``generic``. `items` is the size of the catalogue, None
    when it isn't known; `negatives` counts the other candidates of each user.

    Examples
    --------
    >>> print(task("news", 800, "uniform", 1, "test", 2))
    For each of 2 test users, 2 articles were put in order: the one that the user read next, hidden
    from the system, and 1 other drawn evenly from the catalogue of 800 articles.
    """
    noun, verb = _NOUNS.get(domain, ("item", "chose"))
    size = "" if items is None else f" of {counted(items, noun)}"
    origin = _DRAWN.get(sampler, "drawn from {} by another rule").format(f"the catalogue{size}")
    who = counted(users, split_name(split).lower().removesuffix("s"))
    each = "For" if users == 1 else "For each of"
    others = "1 other" if negatives == 1 else f"{negatives} others"
    return (
        f"{each} {who}, {negatives + 1} {noun}s were put in order: the one that "
        f"the user {verb} next, hidden from the system, and {others} {origin}."
    )
