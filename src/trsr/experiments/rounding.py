"""Records as JSON values that are the same for every repetition."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_DIGITS = 6


def rounded(value: Any) -> Any:
    """Round all numbers: a training that went on after a kill ends like another one up to rounding.

    Examples
    --------
    >>> rounded({"a": [0.12345678, float("nan")], "b": 3})
    {'a': [0.123457, None], 'b': 3}
    """
    if isinstance(value, float):
        return round(value, _DIGITS) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: rounded(inside) for key, inside in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(inside) for inside in value]
    return value
