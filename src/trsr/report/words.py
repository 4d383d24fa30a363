"""Numbers, names, metrics and the task in the form in which a person reads them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from trsr.baselines.base import Baseline, baseline_class
from trsr.errors import ConfigError
from trsr.evaluation.statistics import Estimate
from trsr.records import NO_SUMMARY, PROFILES
from trsr.registry import BASELINES, METRICS, is_dotted, parse

_NAMES: Final = {
    "tallrec": "LM (whole history)",
    "hierarchical": "LM (hierarchical summary)",
    "recurrent": "LM (recurrent summary)",
    "sections": "LM (profile in sections)",
    NO_SUMMARY: "LM (no summary)",
    PROFILES: "LM (texts of a table)",
    "llmseqprompt": "LLMSeqPrompt (order of retrieved items)",
    "mllm_msr": "MLLM-MSR (summary of captions)",
    "fused": "Fused ranker",
    "language_model": "Language model",
    "cold item": "Item that training never saw",
    "in the history": "Item of the history",
}
_DESCRIPTIONS: Final = {
    "tallrec": "The language model reads the whole history as text and answers yes or no.",
    "hierarchical": "The language model reads a summary made of block summaries, and the recent items.",
    "sections": "The language model reads a profile in sections, which blocks edit, and the recent items.",
    "recurrent": "The language model reads a summary updated block by block, and the recent items.",
    PROFILES: "The language model reads the text that a table has of the user, and the recent items; when "
    "the text was written, before the target or after it, is not known.",
    "llmseqprompt": "The language model reads the whole history, and has learnt to order what another system "
    "retrieves.",
    "mllm_msr": "The language model reads a summary updated by blocks of three items, told with the captions "
    "of their images, and no recent items.",
    "fused": "A weighted sum of the language model and other systems, fitted on validation users.",
}
_SAMPLERS: Final = {
    "uniform": "uniform negatives",
    "popularity": "popularity-proportional negatives",
    "catalogue": "the whole catalogue",
    "two-stage": "two steps",
    "file": "candidates from a file",
    "impressions": "what was shown together",
}
_ROWS: Final = {"rolling": "rolling rows", "leave-last-out": "the last item of everybody"}
_SPLITS: Final = {"test": "Test users", "valid": "Validation users", "train": "Training users"}
_NONE: Final = "–"
_CUTOFF: Final = re.compile(r"@(\d+)")


def system_name(name: str) -> str:
    """Name of a system for the page; an unknown one is shown as it is.

    Examples
    --------
    >>> system_name("tfidf"), system_name("bm25(k1=2.0)"), system_name("TRSR (compact)")
    ('TF-IDF similarity', 'BM25 similarity (k1=2.0)', 'TRSR (compact)')
    """
    return _NAMES.get(name) or _of_class(name, lambda found: found.label) or name


def system_description(name: str) -> str:
    """Say in one sentence what a system is; empty for one that is unknown.

    Examples
    --------
    >>> system_description("popularity")
    'The items that most users took stand first, the same for everybody.'
    """
    return _DESCRIPTIONS.get(name) or _of_class(name.partition("(")[0], lambda found: found.description)


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
    >>> sampler_name("uniform"), sampler_name("by month"), sampler_name("rolling, catalogue")
    ('uniform negatives', 'negatives “by month”', 'the whole catalogue, rolling rows')
    """
    rows, _, among = sampler.rpartition(", ")
    named = _SAMPLERS.get(among, f"negatives “{among}”")
    return f"{named}, {_ROWS.get(rows, rows)}" if rows else named


def split_name(split: str) -> str:
    """Name of a split for the page."""
    return _SPLITS.get(split, split)


def decimal(value: float | None) -> str:
    """Three digits after the point; a dash for a number that is not known or could not be computed.

    Examples
    --------
    >>> decimal(0.41249), decimal(float("nan"))
    ('0.412', '–')
    """
    return _NONE if value is None or math.isnan(value) else f"{value:.3f}"


def interval(value: Estimate) -> str:
    """Write the ends of a 95% interval, inside a sentence.

    Examples
    --------
    >>> interval(Estimate(0.5, 0.4, 0.6))
    '0.400 to 0.600'
    """
    return f"{decimal(value.low)} to {decimal(value.high)}"


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
    """P of a test, as it stands in a table or after the letter; a dash for none.

    Examples
    --------
    >>> p_value(0.0312), p_value(0.00002), p_value(1.0), p_value(None)
    ('0.031', '<0.001', '1.000', '–')
    """
    if value is None or math.isnan(value):
        return _NONE
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def percent(value: float | None) -> str:
    """Share as a whole percentage, with a digit more below 5%; a dash for none.

    Examples
    --------
    >>> percent(0.4129), percent(0.0132), percent(0.0), percent(1.0)
    ('41%', '1.3%', '0%', '100%')
    """
    if value is None or math.isnan(value):
        return _NONE
    return f"{value:.0%}" if value == 0 or value >= 0.0495 else f"{value:.1%}"


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


def listed(names: Sequence[str], most: int = 99, noun: str = "system") -> str:
    """Names joined for a sentence; where there are more than `most`, only their number.

    Examples
    --------
    >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"]), listed(["a", "b", "c"], 2)
    ('a', 'a and b', 'a, b and c', '3 systems')
    """
    if len(names) > most:
        return counted(len(names), noun)
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


_NOUNS: Final = {"news": ("article", "read"), "video": ("video", "watched")}
_DRAWN: Final = {
    "uniform": "drawn evenly from {}",
    "popularity": "drawn from {} in proportion to how popular they are",
    "file": "that a file names, out of {}",
    "impressions": "shown beside it, out of {}",
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
    rule = _DRAWN.get(sampler.rpartition(", ")[2], "drawn from {} by another rule")
    origin = rule.format(f"the catalogue{size}")
    who = counted(users, split_name(split).lower().removesuffix("s"))
    each = "For" if users == 1 else "For each of"
    others = "1 other" if negatives == 1 else f"{negatives} others"
    return (
        f"{each} {who}, {negatives + 1} {noun}s were put in order: the one that "
        f"the user {verb} next, hidden from the system, and {others} {origin}."
    )


def family(metric: str) -> str:
    """Name of a metric without its cut-off.

    Examples
    --------
    >>> family("Recall@3"), cutoff("Recall@3"), family("Recall@3 (catalogue)"), cutoff("AUC")
    ('Recall', 3, 'Recall (catalogue)', 0)
    """
    return _CUTOFF.sub("", metric)


def cutoff(metric: str) -> int:
    """Cut-off of a metric; 0 for one without."""
    found = _CUTOFF.search(metric)
    return int(found[1]) if found else 0


def in_order(metrics: Iterable[str]) -> tuple[str, ...]:
    """Give each metric once: Recall, MRR, NDCG, AUC, then others as they appear; each by rising k.

    Examples
    --------
    >>> in_order(["AUC", "NDCG@10", "Recall@10", "NDCG@3", "Hits", "NDCG@3"])
    ('Recall@10', 'NDCG@3', 'NDCG@10', 'AUC', 'Hits')
    """
    names = list(dict.fromkeys(metrics))
    families = list(dict.fromkeys([*METRICS, *map(family, names)]))
    return tuple(sorted(names, key=lambda name: (families.index(family(name)), cutoff(name))))


def environment(templates: Path) -> Environment:
    """Make what fills a folder's templates: every text escaped, no name unknown, these words as filters."""
    made = Environment(
        loader=FileSystemLoader(templates),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words = (
        amount, counted, cutoff, decimal, family, interval, listed, p_value, percent, sampler_name, signed,
        split_name, system_name,
    )  # fmt: skip
    made.filters.update({word.__name__: word for word in words})
    return made
