"""Texts are cleaned, and lists of ids found in them."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Collection, Sequence
from html.entities import html5
from html.parser import HTMLParser
from typing import Any, Final

import polars as pl

from trsr.data.notes import FILE, LINE, Notes

_STRING: Final = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_JSON_STRING: Final = r'"(?:[^"\\]|\\.)*"'
_ATOM: Final = rf"""(?:{_STRING}|[^\s,\[\]{{}}()"']+)"""
_JSON_TOKENS: Final = rf"(?s){_JSON_STRING}|[{{}}\[\],:]|[^\s{{}}\[\],:\"]+"
_BROKEN_LIST: Final = r"""(?s)^\[\s*['"](.*)['"]\s*\]$"""
# Stands for an escaped backslash while the other escapes are undone; a private character, never real text.
_BACKSLASH: Final = "\ue0ff"


_JSON_NAMES: Final = {
    "nan": None, "NaN": None, "inf": None, "Infinity": None, "null": None, "true": True, "false": False,
}  # fmt: skip


def python_value(text: str) -> Any:
    """Read a value as Python writes it; NaN and infinity are None, and JSON's names are known.

    Raises ValueError when it is no literal.

    Examples
    --------
    >>> python_value("{'asin': 'B1', 'price': nan, 'related': [1, True,]}")
    {'asin': 'B1', 'price': None, 'related': [1, True]}
    """
    try:
        with warnings.catch_warnings():
            # An escape that Python doesn't know: the text was not written by it.
            warnings.simplefilter("error")
            tree = _WithNames().visit(ast.parse(text.strip(), mode="eval"))
            return ast.literal_eval(tree)
    except (SyntaxError, MemoryError, RecursionError, Warning, TypeError) as error:
        raise ValueError(str(error)) from error


class _WithNames(ast.NodeTransformer):
    """Puts values in place of the names that stand for them."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.copy_location(ast.Constant(_JSON_NAMES[node.id]), node) if node.id in _JSON_NAMES else node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        inside = self.visit(node.operand)
        is_none = isinstance(inside, ast.Constant) and inside.value is None
        return inside if is_none else node


def ids_in_text(text: pl.Expr) -> pl.Expr:
    r"""Read ids that were written as one text: a list in brackets, or ids by comma or white space.

    Null where brackets don't hold a flat list.

    Examples
    --------
    >>> written = ["['B1' 'B2'\n 'B3']", '["a", "b"]', "[400, 21]", "7 8", "x, y", "[[1]]", ""]
    >>> rows = pl.DataFrame({"ids": written})
    >>> rows.select(ids_in_text(pl.col("ids"))).to_series().to_list()
    [['B1', 'B2', 'B3'], ['a', 'b'], ['400', '21'], ['7', '8'], ['x', 'y'], None, []]
    """
    bare = text.str.strip_chars()
    by_comma = bare.str.split(",").list.eval(pl.element().str.strip_chars())
    by_space = bare.str.extract_all(r"\S+")
    free = pl.when(bare.str.contains(",", literal=True)).then(by_comma).otherwise(by_space)
    return pl.when(bare.str.starts_with("[")).then(_bracketed(bare)).otherwise(free)


def _bracketed(bare: pl.Expr) -> pl.Expr:
    # JSON is rewritten first, so that its escapes of printable characters are undone.
    bare = pl.coalesce(bare.str.json_path_match("$"), bare)
    inside = bare.str.strip_prefix("[").str.strip_suffix("]")
    atoms = inside.str.extract_all(rf"(?s){_ATOM}").list.eval(_unquoted(pl.element()))
    # What is left without the atoms must be separators, and `...` means that numpy left ids out.
    left = inside.str.replace_all(rf"(?s){_ATOM}", "")
    flat = (
        bare.str.ends_with("]")
        & left.str.contains(r"^[\s,]*$")
        & ~inside.str.contains(r"(?:^|\s)\.\.\.(?:\s|$)")
    )
    return pl.when(flat).then(atoms)


def _unquoted(atom: pl.Expr) -> pl.Expr:
    """Take the quotes off a string as Python or JSON writes it; unprintable characters become spaces."""
    body = (
        atom.str.slice(1)
        .str.head(-1)
        .str.replace_all("\\\\", _BACKSLASH, literal=True)
        .str.replace_all(r"""\\(['"/])""", "${1}")
        .str.replace_all(r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[abfnrtv0])", " ")
        .str.replace_all(_BACKSLASH, "\\", literal=True)
    )
    return pl.when(atom.str.contains(r"""^['"]""")).then(body).otherwise(atom)


def text_of_list(text: pl.Expr) -> pl.Expr:
    r"""Join the strings of a Python list that was written as text; other text stays as it is.

    Quotes that were not escaped, as real files have them, are read as part of the text.

    Examples
    --------
    >>> written = ["['For 1/2\" pipe.', \"It's blue\"]", "[]", "['it's', 'b']", "plain [text]"]
    >>> rows = pl.DataFrame({"text": written})
    >>> rows.select(text_of_list(pl.col("text"))).to_series().to_list()
    ['For 1/2" pipe. It\'s blue', '', "it's b", 'plain [text]']
    """
    is_list = text.str.contains(rf"(?s)^\[\s*(?:{_STRING}(?:\s*,\s*{_STRING})*)?\s*\]$")
    strings = text.str.extract_all(rf"(?s){_STRING}").list.eval(_unquoted(pl.element()))
    is_broken_list = text.str.contains(_BROKEN_LIST)
    inside = text.str.replace(_BROKEN_LIST, "${1}").str.replace_all(r"""['"]\s*,\s*['"]""", " ")
    return pl.when(is_list).then(strings.list.join(" ")).when(is_broken_list).then(inside).otherwise(text)


def text_of_json(text: pl.Expr, separator: str) -> pl.Expr:
    """Write a JSON list or object as readable text; other text stays as it is.

    Examples
    --------
    >>> rows = pl.DataFrame({"text": ['{"Color":"red","Size":{"cm":4}}', '["a, b","c"]', "plain", "[]"]})
    >>> rows.select(text_of_json(pl.col("text"), "; ")).to_series().to_list()
    ['Color: red; Size: cm: 4', 'a, b; c', 'plain', '']
    """
    token = pl.element()
    written = (
        pl.when(token.is_in(["{", "}", "[", "]"])).then(pl.lit(""))
        .when(token == ":").then(pl.lit(": "))
        .when(token == ",").then(pl.lit(separator))
        .otherwise(_unquoted(token))
    )  # fmt: skip
    joined = text.str.extract_all(_JSON_TOKENS).list.eval(written).list.join("")
    return pl.when(text.str.contains(r"^[\[{]")).then(joined).otherwise(text)


_UNPAIRED: Final = frozenset((
    "br", "hr", "p", "li", "tr", "td", "th", "dt", "dd", "wbr", "img", "div", "span", "ul", "ol", "strong",
    "table", "tbody", "thead", "h1", "h2", "h3", "h4", "h5", "h6",
))  # fmt: skip
"""Tags that stand without their end in real texts, and that nobody writes for something else."""
_PAIRED: Final = frozenset((
    "a", "abbr", "acronym", "address", "article", "aside", "audio", "b", "big", "blockquote", "body",
    "button", "caption", "center", "cite", "code", "col", "del", "details", "dl", "em", "embed",
    "figcaption", "figure", "font", "footer", "form", "head", "header", "html", "i", "iframe", "input",
    "ins", "kbd", "label", "link", "main", "map", "mark", "meta", "nav", "noscript", "object", "option",
    "param", "picture", "pre", "q", "s", "samp", "script", "section", "select", "small", "source", "strike",
    "style", "sub", "summary", "sup", "svg", "template", "textarea", "tfoot", "time", "title", "tt", "u",
    "var", "video",
))  # fmt: skip
"""Tags that need attributes, or their end further on: ``a<b>c`` and ``<title>`` may be plain text."""
_INLINE: Final = frozenset((
    "a", "abbr", "acronym", "b", "big", "cite", "code", "del", "em", "font", "i", "ins", "kbd", "label",
    "mark", "q", "s", "samp", "small", "span", "strike", "strong", "sub", "sup", "time", "tt", "u", "var",
    "wbr",
))  # fmt: skip
"""Tags that part no words."""
_UNSEEN: Final = frozenset(("script", "style", "noscript", "iframe", "head", "template", "svg"))
"""Tags whose content is not shown."""
_VALUE: Final = r"""\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'<>]+)"""
_ATTRIBUTE: Final = (
    rf"""(?:\s+|(?<=["']))(?:[a-z_:][\w:.-]*{_VALUE}|(?:nowrap|noshade|compact|hidden|disabled)(?=[\s/>]))"""
)
_NAMES: Final = "|".join(sorted(_UNPAIRED | _PAIRED, key=len, reverse=True))
_TOKEN: Final = re.compile(
    rf"<(?P<end>/?)(?P<name>{_NAMES})(?P<attributes>(?:{_ATTRIBUTE})*)\s*/?>"
    rf"|(?P<cut><(?:{_NAMES})\s+[a-z-]+\s*=[^<>]*$)"
    r"|(?P<unseen><!--.*?-->|<!doctype\b[^<>]*>|<\?xml\b[^<>]*>|<!\[CDATA\[|\]\]>)"
    r"|&(?P<entity>#\d{1,7}|#x[\da-f]{1,6}|[a-z][a-z\d]{1,31});"
    r"|&(?P<bare>amp|lt|gt|quot|nbsp|#\d{2,7})(?![\w=])"
    r"|[<&]",
    re.IGNORECASE | re.DOTALL,
)
_END_TAG: Final = re.compile(rf"</({_NAMES})\s*>", re.IGNORECASE)
_MAY_BE_MARKUP: Final = r"<[/!?a-zA-Z]|&[#a-zA-Z]"
_TIMES_ESCAPED: Final = 3
_SHOWN: Final = 34
_MOJIBAKE: Final = (
    "Ã[\u0080-\u00bf‡‰ƒœŸŠŽ]|Â[\u00a0-\u00bf]|â€[\u0080-\u00bf™œžŸ¢¦“”˜]"
    "|(?:[ÐÑ][\u0080-\u00bf‚ƒ„…†‡ˆ‰Š‹Œ‘’“”•–—]){2}"
)
"""UTF-8 that was read as Latin-1 or cp1252: é is ``Ã©`` then, an apostrophe ``â€™``."""


def is_empty(text: pl.Expr, null_words: Collection[str]) -> pl.Expr:
    r"""Say whether nothing is there: null, white space, or a null word alone.

    Examples
    --------
    >>> rows = pl.DataFrame({"brand": ["Acme", " ", None, r"\N", "N/A ", "None Such"]})
    >>> rows.select(is_empty(pl.col("brand"), ["N/A", r"\N"])).to_series().to_list()
    [False, True, True, True, True, False]
    """
    return text.is_null() | text.str.strip_chars().is_in(["", *null_words])


def empty_as_null(
    rows: pl.DataFrame, columns: Sequence[str], null_words: Collection[str], notes: Notes
) -> pl.DataFrame:
    """Put null where a null word stands alone, also inside lists, and where a number is NaN; all are noted.

    Columns are texts, lists, or texts that hold a list or object as JSON or Python writes it; those of
    other types stay as they are. Notes take the values with their places, `FILE` and `LINE`.

    Examples
    --------
    >>> rows = pl.DataFrame({FILE: "a.csv", LINE: [2, 3], "tags": ['["None", "Tools"]', "None"]})
    >>> empty_as_null(rows, ["tags"], ["None"], Notes())["tags"].to_list()
    ['["Tools"]', None]
    """
    for name in columns:
        filled = _without_empty(rows[name], null_words)
        if filled is None:
            continue
        other = filled.ne_missing(rows[name])
        shown = pl.format("{}: {}", pl.lit(name), _as_shown(rows[name]))
        message = "values that say that nothing is there are read as empty (`data.null_words`)"
        notes.add("null-word", message, "repaired", rows.filter(other), shown)
        rows = rows.with_columns(filled)
    return rows


def clean_texts(
    rows: pl.DataFrame, columns: Sequence[str], null_words: Collection[str], notes: Notes
) -> pl.DataFrame:
    """Take HTML out of item texts, make empty ones "", and note those once decoded by a wrong encoding."""
    for name in columns:
        rows = _without_html(rows, name, notes)
    rows = empty_as_null(rows, columns, null_words, notes)
    for name in columns:
        garbled = rows.filter(pl.col(name).str.contains(_MOJIBAKE))
        message = "texts hold UTF-8 that was once read as another encoding; mend them at their source"
        notes.add("mojibake", message, "noted", garbled, pl.format("{}: {}", pl.lit(name), name))
    return rows.with_columns(
        pl.when(is_empty(pl.col(name), ())).then(pl.lit("")).otherwise(pl.col(name)).alias(name)
        for name in columns
    )


def without_html(text: str) -> str:
    r"""Take known tags out of a text and write entities as their characters.

    What HTML can't mean stays: comparisons, hearts, names with ``&``. Texts that were escaped
    several times are unescaped as often.

    Examples
    --------
    >>> without_html("<p>Oak &amp;amp; <b>Steel</b><br/>5&quot; x 3&#39;</p><script>x()</script>")
    'Oak & Steel 5" x 3\''
    >>> without_html("I <3 AT&T: 5 < 6, a<b>c")
    'I <3 AT&T: 5 < 6, a<b>c'
    """
    for _ in range(_TIMES_ESCAPED):
        read = _Shown().read(_with_plain_signs_escaped(text))
        if read == text:
            break
        text = " ".join(read.split())
    return text


def _without_html(rows: pl.DataFrame, name: str, notes: Notes) -> pl.DataFrame:
    suspects = rows.with_row_index("_row").filter(pl.col(name).str.contains(_MAY_BE_MARKUP))
    if suspects.is_empty():
        return rows
    cleaned = pl.Series("_clean", [without_html(text) for text in suspects[name]], dtype=pl.String)
    changed = suspects.with_columns(cleaned).filter(pl.col("_clean") != pl.col(name))
    examples = changed.head(5).select(FILE, LINE, name, "_clean").rows()
    told = [_change(name, before, after) for _, _, before, after in examples]
    shown = pl.Series("_shown", told + [""] * (changed.height - len(told)), dtype=pl.String)
    message = "texts with HTML are read without its tags, and with the characters that its entities stand for"
    notes.add("html", message, "repaired", changed.with_columns(shown), "_shown")
    return rows.with_columns(rows[name].clone().scatter(changed["_row"], changed["_clean"]))


def _change(name: str, before: str, after: str) -> str:
    """Show a text from a little before its first difference on, before and after."""
    same = next((k for k, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), 0)
    start = max(0, same - _SHOWN // 2)
    return f"{name}: {before[start : start + _SHOWN]} → {after[start : start + _SHOWN]}"


def _with_plain_signs_escaped(text: str) -> str:
    """Escape each ``<`` and ``&`` that starts no tag or entity, for the parser to leave it alone."""
    last_end = {match[1].lower(): match.start() for match in _END_TAG.finditer(text)}

    def escaped(match: re.Match[str]) -> str:
        whole = match[0]
        if match["name"]:
            name = match["name"].lower()
            ended = last_end.get(name, -1) >= match.end()
            if name in _UNSEEN and not match["end"]:
                return whole if ended else " "
            is_tag = match["end"] or match["attributes"] or name in _UNPAIRED or ended
            return whole if is_tag else f"&lt;{whole[1:]}"
        if match["entity"]:
            known = match["entity"].startswith("#") or f"{match['entity']};" in html5
            return whole if known else f"&amp;{whole[1:]}"
        if match["bare"]:
            return f"{whole};"
        return " " if match["unseen"] or match["cut"] else {"<": "&lt;", "&": "&amp;"}[whole]

    return _TOKEN.sub(escaped, text)


class _Shown(HTMLParser):
    """Collects what a browser would show; tags that part words become a space."""

    def read(self, markup: str) -> str:
        """Give the text of a piece of HTML."""
        self._parts: list[str] = []
        self._unseen = 0
        self.feed(markup)
        self.close()
        return "".join(self._parts)

    def handle_data(self, data: str) -> None:
        """Keep text."""
        if not self._unseen:
            self._parts.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Part words, and start to leave out what isn't shown."""
        self._unseen += tag in _UNSEEN
        self._part(tag)

    def handle_endtag(self, tag: str) -> None:
        """Part words, and go on after what isn't shown."""
        self._unseen = max(0, self._unseen - (tag in _UNSEEN))
        self._part(tag)

    def _part(self, tag: str) -> None:
        if tag not in _INLINE:
            self._parts.append(" ")


def _without_empty(column: pl.Series, null_words: Collection[str]) -> pl.Series | None:
    """Give the column with nulls for null words; None when it holds none."""
    value = pl.col(column.name)
    word = pl.element().str.strip_chars().is_in(list(null_words))
    if column.dtype.is_float():
        filled = column.fill_nan(None)
    elif column.dtype == pl.String:
        alone = column.str.strip_chars().is_in(list(null_words))
        filled = column.set(alone, None) if alone.any() else column
        filled = _without_empty_in_written_lists(filled, null_words)
    elif column.dtype == pl.List(pl.String):
        filled = column.to_frame().select(value.list.eval(pl.element().filter(~word))).to_series()
    else:
        return None
    return filled if filled is not column and filled.ne_missing(column).any() else None


def _without_empty_in_written_lists(column: pl.Series, null_words: Collection[str]) -> pl.Series:
    written = column.str.starts_with("[") | column.str.starts_with("{")
    if not written.any():
        return column
    words = pl.col(column.name).str.contains_any([*null_words, "null", "None"])
    suspects = column.to_frame().with_row_index("_row").filter(written).filter(words)
    pruned = [_pruned_text(text, null_words) for text in suspects[column.name]]
    return column.clone().scatter(suspects["_row"], pl.Series(pruned, dtype=pl.String))


def _pruned_text(text: str, null_words: Collection[str]) -> str:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        try:
            value = python_value(text)
        except ValueError:
            return text
    pruned = _pruned(value, null_words)
    return text if pruned == value else json.dumps(pruned, ensure_ascii=False, separators=(",", ":"))


def _pruned(value: Any, null_words: Collection[str]) -> Any:
    """Leave out of lists and objects what is null or a null word."""
    if isinstance(value, dict):
        return {key: _pruned(part, null_words) for key, part in value.items() if _says(part, null_words)}
    if isinstance(value, list | tuple):
        return type(value)(_pruned(part, null_words) for part in value if _says(part, null_words))
    return value


def _says(value: Any, null_words: Collection[str]) -> bool:
    return value is not None and not (isinstance(value, str) and value.strip() in null_words)


def _as_shown(column: pl.Series) -> pl.Expr:
    value = pl.col(column.name)
    return value.list.join(", ", ignore_nulls=True) if column.dtype == pl.List(pl.String) else value
