"""Text-rich sequential recommendation with language models.

The names below are the public library. They are loaded when first used, so that
``import trsr`` needs no torch and answers at once.

Examples
--------
>>> import trsr
>>> config = trsr.load_config(overrides={"summary.paradigm": "hierarchical"})
>>> config.summary.block_size
5
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from trsr.config import Config
    from trsr.config import load as load_config
    from trsr.errors import ConfigError, DataError, RunError, TrsrError, UsageError
    from trsr.pipeline import run
    from trsr.recommender import Recommender
    from trsr.records import RankedItem, Ranking

__version__ = "0.1.0"

__all__ = [
    "Config",
    "ConfigError",
    "DataError",
    "RankedItem",
    "Ranking",
    "Recommender",
    "RunError",
    "TrsrError",
    "UsageError",
    "load_config",
    "run",
]

_HOMES: Final = {
    "Config": ("trsr.config", "Config"),
    "ConfigError": ("trsr.errors", "ConfigError"),
    "DataError": ("trsr.errors", "DataError"),
    "RankedItem": ("trsr.records", "RankedItem"),
    "Ranking": ("trsr.records", "Ranking"),
    "Recommender": ("trsr.recommender", "Recommender"),
    "RunError": ("trsr.errors", "RunError"),
    "TrsrError": ("trsr.errors", "TrsrError"),
    "UsageError": ("trsr.errors", "UsageError"),
    "load_config": ("trsr.config", "load"),
    "run": ("trsr.pipeline", "run"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        message = f"module 'trsr' has no attribute {name!r}"
        raise AttributeError(message)
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
