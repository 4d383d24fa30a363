"""Reading words out of untrusted item text: runs of words between punctuation, and hashtags.

What leaves this module are words only: letters, digits and the few signs that
stand inside a word. Newlines, control characters, markup and control tokens
of models end here.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from trsr.prompts.words import LETTER, spaced, usual_width

_SCAN: Final = re.compile(
    rf"(?P<word>(?:[A-Z]\.){{2,}}|{LETTER}(?:{LETTER}|(?:[-'’&]|[./](?=\d)|_)(?={LETTER}))*)"
    r"|(?P<label>#)|(?P<stop>\S)"
)
_MARKUP: Final = re.compile(r"<[^<>]{0,200}>")
_UNSAFE: Final = re.compile(r"[<>{}\[\]|`\\#\"]")
_LABEL_WORDS: Final = 4
_MEASURE: Final = re.compile(r"\d[\d.,/-]*(?:[-./].*)?$")
_MAX_CHARACTERS: Final = 20_000


@dataclass(frozen=True, slots=True)
class Run:
    """Words that stand together, with no punctuation between them.

    Parameters
    ----------
    words
        As they are written.
    is_label
        True for a hashtag: its author meant it as a topic.
    """

    words: tuple[str, ...]
    is_label: bool = False


def runs(text: str) -> Iterator[Run]:
    """Yield the runs of words of a text.

    Examples
    --------
    >>> [run.words for run in runs("Walnut desk, 18V <b>lamp</b>")]
    [('Walnut', 'desk'), ('18V',), ('lamp',)]
    >>> [(run.words, run.is_label) for run in runs("so good # movie commentary")]
    [(('so', 'good'), False), (('movie', 'commentary'), True)]
    >>> [run.words for run in runs("園芸用品、軽量スピーカー")]
    [('園芸', '用品'), ('軽量', 'スピーカー')]
    """
    words: list[str] = []
    label = False
    for match in _SCAN.finditer(spaced(_plain(text, gap=" . "))):
        if match.lastgroup == "word":
            words.append(match.group())
            continue
        if words:
            yield _run(words, label)
        words, label = [], match.lastgroup == "label"
    if words:
        yield _run(words, label)


def clean(text: str) -> str:
    r"""Return a short text, such as a brand, on one line and without markup or control characters.

    Examples
    --------
    >>> clean("Brown &amp; Sharpe\n<b>")
    'Brown & Sharpe'
    """
    return " ".join(_UNSAFE.sub(" ", _plain(text, gap=" ")).split())


def is_measure(word: str) -> bool:
    """Say whether a word is a number, or a size or count that no interest hangs on.

    Examples
    --------
    >>> [is_measure(word) for word in ("2022", "1/4-Inch", "12-Pack", "18V", "3D")]
    [True, True, True, False, False]
    """
    return _MEASURE.fullmatch(word) is not None or not any(letter.isalpha() for letter in word)


def fold(word: str) -> str:
    """Return the key under which spellings of one word count together; never shown to anybody.

    Examples
    --------
    >>> fold("Staples"), fold("boxes"), fold("Batteries"), fold("glass")
    ('staple', 'box', 'battery', 'glass')
    """
    key = word.casefold().replace("’", "'").removesuffix("'s")
    if len(key) <= 3 or not key.endswith("s") or key.endswith(("ss", "us", "is")):
        return key
    if key.endswith("ies") and len(key) > 4:
        return key[:-3] + "y"
    if key.endswith(("xes", "ches", "shes", "sses")):
        return key[:-2]
    return key[:-1]


def _plain(text: str, gap: str) -> str:
    """Undo HTML, put a gap for markup, and turn what can't be seen into spaces."""
    unescaped = usual_width(html.unescape(text[:_MAX_CHARACTERS]))
    bare = _MARKUP.sub(gap, unicodedata.normalize("NFC", unescaped))
    if bare.isprintable():
        return bare
    return "".join(letter if letter.isprintable() else " " for letter in bare)


def _run(words: list[str], label: bool) -> Run:
    return Run(tuple(words), label and len(words) <= _LABEL_WORDS and not is_measure(words[0]))
