"""A run that is whole but small: every stage does its real work within seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from trsr.config import Config, dump, load

SETTINGS: dict[str, Any] = {
    "name": "small",
    "data": {"format": "demo", "users": 60, "items": 80},
    "prompt.item_tokens": 12,
    "prompt.max_tokens": 256,
    "prompt.summary_tokens": 32,
    "prompt.domain": "shopping",
    "summary.sampling.max_new_tokens": 8,
    "model": {
        "kind": "compact",
        "hidden": 32,
        "layers": 1,
        "heads": 2,
        "vocabulary": 700,
        "pretrain_epochs": 1,
        "pretrain_questions": 64,
    },
    "training": {"method": "lora", "epochs": 2, "negatives": 1, "max_users": 24, "learning_rate": 1e-3},
    "fusion.companions": [],
    "evaluation.bootstrap": 100,
    "evaluation.report_users": 3,
}

MadeOnce = Callable[[str, Callable[[Path], object]], Path]
"""What the fixture `made_once` is: it takes a name and what fills the folder, and gives the folder."""

FUSED: dict[str, Any] = {
    "data__users": 150,
    "training__epochs": 1,
    "fusion__items": 20,
    "fusion__companions": ["sasrec_text", "itemknn", "tfidf", "popularity"],
}
"""What makes it large enough for a fused ranker."""


def small_config(out: Path, **overrides: Any) -> Config:
    """Make the configuration of a small run; keyword ``a__b`` stands for the setting ``a.b``."""
    named = {key.replace("__", "."): value for key, value in overrides.items()}
    return load(overrides=SETTINGS | {"out": str(out)} | named)


def small_config_file(folder: Path, **overrides: Any) -> Path:
    """Write the configuration of a small run, whose artifacts go to ``folder/run``."""
    path = folder / "small.yaml"
    path.write_text(dump(small_config(folder / "run", **overrides)), encoding="utf-8")
    return path


def one_token_words(model: Path) -> list[str]:
    """Find two words that the tiny tokenizer has whole; it was made of so little text that yes may be two."""
    vocabulary = AutoTokenizer.from_pretrained(model).get_vocab()
    words = sorted(token[1:] for token in vocabulary if token.startswith("\u0120") and token[1:].isalpha())
    return [word for word in words if len(word) > 2][:2]
