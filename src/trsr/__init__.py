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
    from trsr.bundle import Bundle
    from trsr.config import Config
    from trsr.config import load as load_config
    from trsr.data.dataset import Dataset
    from trsr.data.readers.tables import from_frames
    from trsr.errors import ConfigError, DataError, RunError, TrsrError, UsageError
    from trsr.evaluation.metrics import AUC, MRR, NDCG, Metric, Recall
    from trsr.experiments.protocol import EvaluationProtocol
    from trsr.library import FusedRanker, TextRanker, evaluate, prepare, read, write_summaries
    from trsr.pipeline import run
    from trsr.recommender import Recommender
    from trsr.recommending import Recommendation
    from trsr.records import RankedItem, Ranking

__version__ = "0.1.0"

__all__ = [
    "AUC",
    "MRR",
    "NDCG",
    "Bundle",
    "Config",
    "ConfigError",
    "DataError",
    "Dataset",
    "EvaluationProtocol",
    "FusedRanker",
    "Metric",
    "RankedItem",
    "Ranking",
    "Recall",
    "Recommendation",
    "Recommender",
    "RunError",
    "TextRanker",
    "TrsrError",
    "UsageError",
    "evaluate",
    "from_frames",
    "load_config",
    "prepare",
    "read",
    "run",
    "write_summaries",
]

_HOMES: Final = {
    "AUC": ("trsr.evaluation.metrics", "AUC"),
    "Bundle": ("trsr.bundle", "Bundle"),
    "Config": ("trsr.config", "Config"),
    "ConfigError": ("trsr.errors", "ConfigError"),
    "DataError": ("trsr.errors", "DataError"),
    "Dataset": ("trsr.data.dataset", "Dataset"),
    "EvaluationProtocol": ("trsr.experiments.protocol", "EvaluationProtocol"),
    "FusedRanker": ("trsr.library", "FusedRanker"),
    "MRR": ("trsr.evaluation.metrics", "MRR"),
    "Metric": ("trsr.evaluation.metrics", "Metric"),
    "NDCG": ("trsr.evaluation.metrics", "NDCG"),
    "RankedItem": ("trsr.records", "RankedItem"),
    "Ranking": ("trsr.records", "Ranking"),
    "Recall": ("trsr.evaluation.metrics", "Recall"),
    "Recommendation": ("trsr.recommending", "Recommendation"),
    "Recommender": ("trsr.recommender", "Recommender"),
    "RunError": ("trsr.errors", "RunError"),
    "TextRanker": ("trsr.library", "TextRanker"),
    "TrsrError": ("trsr.errors", "TrsrError"),
    "UsageError": ("trsr.errors", "UsageError"),
    "evaluate": ("trsr.library", "evaluate"),
    "from_frames": ("trsr.data.readers.tables", "from_frames"),
    "load_config": ("trsr.config", "load"),
    "prepare": ("trsr.library", "prepare"),
    "read": ("trsr.library", "read"),
    "run": ("trsr.pipeline", "run"),
    "write_summaries": ("trsr.library", "write_summaries"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        message = f"module 'trsr' has no attribute {name!r}"
        raise AttributeError(message)
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
