"""Lists that were written as text: JSON, the representations of Python and numpy, or ids in a row."""

from __future__ import annotations

import ast
import warnings
from typing import Any, Final

import polars as pl

_STRING: Final = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_JSON_STRING: Final = r'"(?:[^"\\]|\\.)*"'
_ATOM: Final = rf"""(?:{_STRING}|[^\s,\[\]{{}}()"']+)"""
_JSON_TOKENS: Final = rf"(?s){_JSON_STRING}|[{{}}\[\],:]|[^\s{{}}\[\],:\"]+"
_BROKEN_LIST: Final = r"""(?s)^\[\s*['"](.*)['"]\s*\]$"""
# Stands for an escaped backslash while the other escapes are undone; a private character, never real text.
_BACKSLASH: Final = "\ue0ff"


_NAMES: Final = {
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
        return ast.copy_location(ast.Constant(_NAMES[node.id]), node) if node.id in _NAMES else node

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
