"""Any Hugging Face causal language model, by folder or hub id."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from trsr.config.ranking import HuggingFaceModel
from trsr.errors import ModelError
from trsr.models.identity import folder_identity

_FULL: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A causal language model with its tokenizer.

    Parameters
    ----------
    model
        In evaluation mode, on its device.
    tokenizer
        The tokenizer that the model was trained with.
    identity
        Id and revision; two models of one id are told apart by it.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    identity: str


def choose_device(device: str = "auto") -> torch.device:
    """Return the device that is named; `auto` is CUDA when there is one, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(device)


def number_format(name: str, place: torch.device) -> torch.dtype:
    """Return the number format that is named; `auto` is bfloat16 on a GPU that has it, else float32."""
    auto = torch.bfloat16 if place.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    return _FULL.get(name, auto)


def load_language_model(settings: HuggingFaceModel, device: str = "auto") -> LanguageModel:
    """Load a model and its tokenizer.

    Parameters
    ----------
    settings
        Folder or hub id, revision and number format.
    device
        `auto`, `cpu`, `cuda`, ...

    Raises
    ------
    ModelError
        When either can't be loaded, with the next step.
    """
    place = choose_device(device)
    options = {"revision": settings.revision, "trust_remote_code": settings.trust_remote_code}
    try:
        tokenizer = AutoTokenizer.from_pretrained(settings.path, **options)
        model: nn.Module = AutoModelForCausalLM.from_pretrained(
            settings.path, dtype=number_format(settings.dtype, place), **options
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        message = (
            f"model.path: can't load {settings.path!r} as a causal language model: "
            f"{str(error).splitlines()[0]}; give a folder with config.json, weights and tokenizer.json, "
            "or the id of a model on the hub"
        )
        raise ModelError(message) from error
    return LanguageModel(place_model(model, place), tokenizer, _identity(settings, model))


def _identity(settings: HuggingFaceModel, model: nn.Module) -> str:
    """Name the weights: the same path or hub id twice is not the same model."""
    folder = Path(settings.path)
    if folder.is_dir():
        return folder_identity(folder)
    commit = getattr(model.config, "_commit_hash", None)
    return f"{settings.path}@{commit or settings.revision or 'main'}"


@contextmanager
def without_bars() -> Iterator[None]:
    """Keep transformers from drawing a progress bar for every file that it reads or writes."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def place_model(model: nn.Module, place: torch.device) -> PreTrainedModel:
    """Move a model to its device and set it to evaluation."""
    return cast(PreTrainedModel, model.to(place).eval())
