"""What the words of a text are, in scripts with spaces and in scripts without.

Chinese, Japanese, Thai, Lao, Khmer and Burmese are written without spaces: their words are found by
the dictionaries of ICU, the library of the Unicode consortium, which read all of these scripts in one
text. Katakana is kept whole, since it mostly writes words that no dictionary has: names and loans.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from icu4py.breakers import WordBreaker

_IDEOGRAPHS: Final = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_KATAKANA: Final = "\u30a1-\u30fa\u30fd-\u30ff\u31f0-\u31ff"
_KANA_SIGNS: Final = "\u30fc\u3099\u309a"
"""The long vowel and the voicing marks, which follow a letter of either kana."""
_IN_DICTIONARIES: Final = (
    rf"{_IDEOGRAPHS}\u3041-\u3096\u309d-\u309f{_KANA_SIGNS}"
    r"\u0e00-\u0e3e\u0e40-\u0eff\u1000-\u109f\ua9e0-\ua9fe\uaa60-\uaa7f\u1780-\u17d3\u17d7-\u17e9"
)
WITHOUT_SPACES: Final = f"{_IN_DICTIONARIES}{_KATAKANA}"
"""Letters of scripts that put no spaces between words, to stand inside the brackets of an expression."""
_MARKS: Final = (
    r"\u0300-\u036f\u0591-\u05bd\u05bf-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed"
    rf"\u0900-\u0963\u0966-\u0df3\u0f71-\u0fbc{WITHOUT_SPACES}"
)
r"""Accents and vowel signs, which Python's ``\w`` leaves out and which would cut their words in pieces.

Of the scripts of India and South East Asia it has all signs but those that end sentences.
"""
LETTER: Final = rf"(?:[^\W_]|[{_MARKS}])"
"""A letter or digit of any script, or a sign that belongs to one."""
WIDE: Final = re.compile("[\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\uff66-\uff9f][\uff9e\uff9f]?")
"""A letter or digit of double width, or a Katakana letter of half width with its voicing mark."""

_UNSPACED: Final = re.compile(f"[{WITHOUT_SPACES}]")
_PIECE: Final = re.compile(
    rf"[{_KATAKANA}][{_KATAKANA}{_KANA_SIGNS}]*|(?P<run>[{_IN_DICTIONARIES}]+)|[^{WITHOUT_SPACES}]+"
)
_GAP: Final = re.compile(rf"(?<=[{WITHOUT_SPACES}]) (?=[{WITHOUT_SPACES}])")
_WORD: Final = re.compile(rf"[\w{_MARKS}]{{2,}}")
_LONE_PAIR: Final = re.compile(rf"(?<!\S)([{_IDEOGRAPHS}])(?= ([{_IDEOGRAPHS}])(?!\S))")


def words(text: str) -> list[str]:
    """Return the words that texts are compared by: runs of two letters or digits and more.

    Ideographs that the dictionaries leave alone one after the other are no words of theirs, and are
    taken in pairs: the word that they are in is among them, or two parts of it.

    Examples
    --------
    >>> words("A 5 l mug, 18V")
    ['mug', '18V']
    >>> words("ＵＳＢケーブル園芸用品"), words("男女羽绒服")
    (['USB', 'ケーブル', '園芸', '用品'], ['男女', '羽绒', '绒服'])
    """
    text = spaced(text)
    return [*_WORD.findall(text), *map("".join, _LONE_PAIR.findall(text))]


def spaced(text: str) -> str:
    """Put spaces between words that have none, and write wide letters as usual ones; other texts stay.

    Examples
    --------
    >>> spaced("軽量スピーカー、音響用品"), spaced("Walnut desk,  18V")
    ('軽量 スピーカー 、 音響 用品', 'Walnut desk,  18V')
    """
    return " ".join(segments(usual_width(text)))


def segments(text: str) -> list[str]:
    """Cut a text at the ends of words that no space marks; joined, the segments are the text.

    Examples
    --------
    >>> segments("red PC用マウス")
    ['red PC', '用', 'マウス']
    """
    if not _UNSPACED.search(text):
        return [text]
    found: list[str] = []
    for piece in _PIECE.finditer(text):
        # The dictionary goes by the script of the letters, whatever the locale.
        found.extend(WordBreaker(piece.group(), "und") if piece["run"] else [piece.group()])
    return found


def joined(parts: Iterable[str]) -> str:
    """Write words one after another as their script does, with spaces or without.

    Examples
    --------
    >>> joined(["walnut", "lamp"]), joined(["園芸", "用品"]), joined(["USB", "ケーブル"])
    ('walnut lamp', '園芸用品', 'USB ケーブル')
    """
    return _GAP.sub("", " ".join(parts))


def usual_width(text: str) -> str:
    """Write letters and digits of double or half width as the usual ones (Unicode's NFKC).

    Examples
    --------
    >>> usual_width("ＳＯＮＹ ﾊﾞｯｸﾞ １８Ｖ")
    'SONY バッグ 18V'
    """
    return WIDE.sub(lambda letter: unicodedata.normalize("NFKC", letter.group()), text)
