"""Parts by name: a built-in one by its short name, anybody's own as ``package.module:Class``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from trsr.errors import ConfigError


def is_dotted(name: str) -> bool:
    """Say whether a name leads to a class outside the package.

    Examples
    --------
    >>> is_dotted("bm25"), is_dotted("my_shop.rankers:Ease")
    (False, True)
    """
    return ":" in name


def find_part(what: str, name: str, built_in: Mapping[str, str]) -> Any:
    """Import the class, or the function, that a name leads to.

    Parameters
    ----------
    what
        The kind of part, in words, such as ``baseline``; it stands in the errors.
    name
        A key of `built_in`, or ``package.module:Class`` of any importable module.
    built_in
        Short name to ``package.module:Class``.

    Raises
    ------
    ConfigError
        When there is no such built-in part, or the module or the class can't be imported.

    Examples
    --------
    >>> find_part("mapping", "ordered", {"ordered": "collections:OrderedDict"}).__name__
    'OrderedDict'
    >>> find_part("mapping", "collections:Counter", {}).__name__
    'Counter'
    """
    if not is_dotted(name) and name not in built_in:
        names = ", ".join(built_in)
        message = f"there is no {what} {name!r}; take one of {names}, or your own as package.module:Class"
        raise ConfigError(message)
    module, _, attribute = built_in.get(name, name).partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        message = f"the {what} {name!r} can't be imported: {error}; is its module on the Python path?"
        raise ConfigError(message) from error
