"""What was ranked for whom, in one sentence."""

from __future__ import annotations

from typing import Final

from trsr.report.wording import counted, split_name

_NOUNS: Final = {"news": ("article", "read"), "video": ("video", "watched")}
_SAMPLERS: Final = {
    "uniform": "drawn evenly from {}",
    "popularity": "drawn from {} in proportion to how popular they are",
}


def task(domain: str, items: int | None, sampler: str, negatives: int, split: str, users: int) -> str:
    """Say what was put in order, in the words of the domain.

    Parameters
    ----------
    domain
        ``shopping``, ``news``, ``video`` or ``generic``.
    items
        Number of items in the catalogue; None when it isn't known.
    sampler, negatives
        How many other candidates each user had, and how they were drawn.
    split, users
        On how many users of which split.

    Examples
    --------
    >>> print(task("news", 800, "uniform", 1, "test", 2))
    For each of 2 test users, 2 articles were put in order: the one that the user read next, hidden
    from the system, and 1 other drawn evenly from the catalogue of 800 articles.
    """
    noun, verb = _NOUNS.get(domain, ("item", "chose"))
    size = "" if items is None else f" of {counted(items, noun)}"
    origin = _SAMPLERS.get(sampler, "drawn from {} by another rule").format(f"the catalogue{size}")
    who = counted(users, split_name(split).lower().removesuffix("s"))
    each = "For" if users == 1 else "For each of"
    others = "1 other" if negatives == 1 else f"{negatives} others"
    return (
        f"{each} {who}, {negatives + 1} {noun}s were put in order: the one that "
        f"the user {verb} next, hidden from the system, and {others} {origin}."
    )
