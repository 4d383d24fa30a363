"""Words of untrusted item text: runs between punctuation, hashtags, and the words that say nothing.

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
    """Words as they are written, with no punctuation between them; a hashtag is a label, meant as a topic."""

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


_GRAMMAR: Final = """
a about above across after again against ago all almost alone along already also although always am
among an and another any anybody anyone anything anyway are aren't around as at away back be became
because become becomes been before behind being below beside besides between beyond both but by came
can can't cannot come comes coming could couldn't did didn't do does doesn't doing don don't done
down due during each either else enough etc even ever every everybody everyone everything everywhere
except few for former from further get gets getting give given gives giving go goes going gone got
had hadn't has hasn't have haven't having he hence her here hers herself him himself his how however
i i'm i've i'd i'll if in indeed instead into is isn't it it's its itself just keep keeps kept last
least less let lets let's like likely made make makes making many may maybe me meanwhile might mine
more moreover most mostly much must my myself namely near neither never nevertheless next no nobody
none nor not nothing now nowhere of off often on once one ones only onto or other others otherwise
our ours ourselves out over own per perhaps please put puts quite rather really regarding said same
say saying says see seeing seem seemed seems seen several shall she should shouldn't since so some
somebody someone something sometimes somewhere still such take taken takes taking tell tells than
that that's the their theirs them themselves then there there's thereby therefore these they they're
thing things this those though through throughout thus to together too took toward towards under
unless until up upon us use used uses using usually various very via want wanted wants was wasn't
way ways we we're well were weren't what what's whatever when whenever where whereas whether which
while who who's whoever whole whom whose why will with within without won't would wouldn't yes yet
you you're you've you'll your yours yourself
"""

_VAGUE: Final = """
able actually add added age ahead amazing approximately appear appeared ask asked asks available
avoid awesome bad based beautiful begin believe best better big bit break bring brings brought call
called care case cause caused certain change click clear close collection common complete completely
consider contains content cool count created current daily dare day days design designed different
difficult direct dont easily easy end ended ending ensure ensures entire especially exactly
excellent expect expected experience extra extremely eye eyes fact fall far fast feel feeling feels
felt fill finally find finds fine finish finished first follow follows found four full fully fun
general generally good great guess guy guys haha half hand handed hands happen happened happens
happy hard head heart help helps high higher highest hold holds hope hour hours huge ideal include
included includes including incredible inside inspected item items kind kinds know known knows large
larger late later latest learn leave left length level life likes line little live lol long longer
look looked looking looks lose lost lot lots love loved loves low lower lowest main major
manufacturer matter mean means meant meet meets minute minutes model moment month months morning
move name names named need needed needs nd new nice night number offer offers ok okay old open
opened order original outside package pack packs part particular parts pay people perfect perfectly
person pick picture pictures place places plus point possible present pretty problem product
products prove provide provided provides pull quality quick quickly ready real reason reasons
receive recent recently recommended reduce related remember require required requires result results
right rd run runs sale saw second seconds selected sell series set sets seven share shared short
show showed shown shows side similar simple simply single size sized sizes small smaller special
specially specific st standard start started starts stay step stop stops strange strong sudden
suddenly suitable super supply support sure talk th thank thanks think third thought three time
times tiny today tomorrow tonight top total tried true truly try trying turn turned turns twice two
type types typical uh um understand unit units unique unknown upset usual version video videos view
vs wait watch watched watching wear week weeks went won wonder wonderful word words work worked
works world worse worst worth wow wrong year years yesterday young yuan zero pcs pc piece pieces
inch inches feet foot lbs lb oz mm cm diameter thick thickness width height weight per warranty made
usa china country origin assorted five six eight nine ten hundred thousand million billion 10 100 ea
pkg qty ah oh hey hi hello everybody guy's anybody come immediately originally directly secretly
accidentally instantly casually crazy big-name wants seems saying met meeting ran running came
coming sent sending send wanted heard hear hearing gave eat eats eating ate play played playing
plays buy bought buys buying sold spend spent kill killed stand sit sleep lie lies dead die died
dies say's welcome attention information subscribe everyday favourite favorite recommend
recommendation recommendations update updated updates part1 episode episodes report reports reported
reportedly according announces announced reveals revealed ways here's photos photo gallery yard
yards ounce ounces gallon gallons quart quarts liter liters gram grams pound pounds value
multi-purpose multipurpose premium professional application applications projects project choose
choice color colors colour colours arrested canceled cancelled destroyed charged failed accused hit
hits fires amid missing wins beats faces hidden reach plans lead leads estimated
"""

# As dictionaries cut them: endings of verbs stand alone.
_JAPANESE: Final = """
から まで より など だけ ほど くらい ぐらい ばかり しか こそ でも ても では には とは への ので のに
のみ ずつ つつ ながら として という について により による によって において または および かつ また
さらに しかし ただし たい たり だり たら なら なる なり なっ なく ない ある あり あっ いる いて おり
する して した さ せ され させ でき できる できます です ます でした ました ません せん だっ だろう
でしょう くれる ください いただく いただけ この その あの どの これ それ あれ どれ ここ そこ こと もの
ため とき よう ような ように そう すべて とても もっと 等 通り 使い方 商品 製品 対応 可能 使用 利用 場合
必要 簡単 便利 最適 人気 送料 無料 新品 品質 サイズ セット タイプ 用品 付き 様々 様 方
"""

_CHINESE: Final = """
的 了 和 与 與 及 或 等 是 在 有 为 為 于 於 以 对 對 从 從 到 把 被 让 讓 给 給 就 都 也 又 还 還 很 更
最 不 没有 沒有 可以 这 這 那 这个 那个 這個 那個 我 你 他 她 它 我们 你们 他们 我們 你們 他們 之 其 而
但 如 因 由 个 個 们 們 着 著 过 過 将 將 能 会 會 要 什么 什麼 怎么 怎麼 一个 一個 一种 使用 适用 適用
适合 適合 产品 產品 商品 新款 正品 包邮
"""

_THAI: Final = """
และ ที่ ของ ใน เป็น ได้ มี สำหรับ กับ ให้ จาก แบบ ไม่ จะ ว่า หรือ โดย เพื่อ นี้ นั้น อยู่ ไป มา แล้ว ก็
แต่ ถ้า เมื่อ ตาม ทุก การ ความ ซึ่ง คือ ยัง กว่า ที่สุด ๆ ชิ้น รุ่น สินค้า ใหม่ ใช้ งาน ขนาด พร้อม ส่ง
"""

_KANA: Final = frozenset(map(chr, range(0x3041, 0x3100)))
"""Single letters: particles, and endings of words."""

STOP_WORDS: Final = frozenset(f"{_GRAMMAR} {_VAGUE} {_JAPANESE} {_CHINESE} {_THAI}".split()) | _KANA
"""Grammar, and the vague words of shops, headlines and video titles."""

CONNECTORS: Final = frozenset({"of", "the", "de", "la", "の", "的"})
"""Stop words that may stand inside a phrase."""

_OPENERS: Final = """
big double first full half hard heavy high last long low new old open real short single small super top
全 別 前 单 双 大 小 新 約 超 軽 防 高
"""

_COLOURS: Final = """
amber beige black blue bronze brown clear gold gray green grey orange pink purple red silver tan white yellow
"""

OPENERS: Final = frozenset(_OPENERS.split())
"""Stop words that may open a phrase, such as "high school" and "New York", and mean nothing alone."""

SUFFIXES: Final = frozenset("中付件个個入制力号號型寸年式形性感枚款歳段版用番系級组色製量風")
"""Ideographs that close a phrase, such as "made in", and never open one."""

COLOURS: Final = frozenset(_COLOURS.split())
"""Words that stand where a thing's name stands, at the end of a title, and name none."""
