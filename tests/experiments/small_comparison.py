"""A comparison that is whole but small: real systems, real training, two seeds, within seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from small_run import small_config
from trsr.config import Config, dump
from trsr.experiments.report import Published

SETTINGS: dict[str, Any] = {
    "data__users": 100,
    "split": {"valid": 0.2, "test": 0.2},
    "training__epochs": 1,
    "training__method": "full",
    "model__pretrain_questions": 16,
    "fusion__companions": ["sasrec", "tfidf"],
    "comparison": {
        "baselines": ["popularity", "tfidf", "sasrec"],
        "language_models": ["tallrec", "recurrent"],
        "seeds": [0, 1],
        "retrieve": 20,
    },
}


def comparison_config(out: Path, **overrides: Any) -> Config:
    """Make the configuration; keyword ``a__b`` stands for the setting ``a.b``."""
    settings = {
        key: value for key, value in SETTINGS.items() if not ("data" in overrides and key == "data__users")
    }
    return small_config(out, **(settings | overrides))


def comparison_config_file(folder: Path, **overrides: Any) -> Path:
    """Write the configuration of a comparison whose files go to ``folder/run``."""
    path = folder / "comparison.yaml"
    path.write_text(dump(comparison_config(folder / "run", **overrides)), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Finished:
    """A comparison that is done: its settings, its files, and what it said."""

    config: Config
    written: Published
    said: Sequence[str]
