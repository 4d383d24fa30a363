"""A ranker before fine-tuning: the compact model, pre-trained here, or a language model from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from trsr.artifacts import hash_value, write_json
from trsr.config import Config
from trsr.config.ranking import CompactModel
from trsr.models.compact import build_model, train_tokenizer
from trsr.models.loading import choose_device, load_language_model, place_model
from trsr.models.pretraining import GameOfAnswers, pretrain
from trsr.models.tokenization import PlainEncoder
from trsr.prompts.item_text import SEPARATOR
from trsr.prompts.templates import Templates
from trsr.prompts.untrusted import neutralise
from trsr.ranking.ranker import COMPACT, Origin, Ranker
from trsr.records import Item

_DONE: Final = "pretraining.json"
_WEIGHTS: Final = "weights"


def fresh_ranker(
    config: Config,
    catalogue: Sequence[Item],
    histories: Sequence[Sequence[Item]],
    folder: Path,
    device: str = "auto",
    summaries: Sequence[str] = (),
) -> tuple[Ranker, list[dict[str, float]]]:
    """Make the ranker that fine-tuning starts from.

    Parameters
    ----------
    config
        Chooses the model.
    catalogue
        Every item, for the compact model's vocabulary and its pre-training.
    histories
        Training users' items with their targets, oldest first; the compact model learns from them.
    folder
        The pre-trained compact model is kept here, so that a killed run needn't repeat it.
    device
        `auto`, `cpu`, `cuda`, ...
    summaries
        The training users' preference summaries, one per history; empty when there are none.

    Returns
    -------
    tuple
        The ranker, and the pre-training's losses (none for a model from elsewhere).
    """
    settings = config.model
    if not isinstance(settings, CompactModel):
        loaded = load_language_model(settings, device)
        origin = Origin("huggingface", loaded.identity, settings)
        return Ranker(loaded.model, loaded.tokenizer, config.prompt, config.ranking_item_tokens, origin), []
    told = [*summaries] or [""] * len(histories)
    ids = [[item.id for item in history] for history in histories]
    texts = [list(item.fields.values()) for item in catalogue]
    parts = config.model_dump(mode="json", include={"seed", "items", "prompt", "model"})
    fingerprint = hash_value([parts, _prompt_words(config), texts, ids, told])
    done = folder / _DONE
    if done.exists() and (earlier := json.loads(done.read_text(encoding="utf-8")))["inputs"] == fingerprint:
        return Ranker.load(folder / _WEIGHTS, device), earlier["log"]
    ranker = _untrained(config, settings, catalogue, told, device)
    answers = (ranker.answers.yes, ranker.answers.no)
    line_break = PlainEncoder(ranker.tokenizer)(["\n"])[0]
    game = GameOfAnswers(ranker.prompt, answers, line_break, catalogue)
    log = pretrain(ranker.model, game, histories, told, settings, folder, config.seed)
    ranker.model.eval()
    ranker.save(folder / _WEIGHTS)
    write_json({"inputs": fingerprint, "log": log}, done)
    return ranker, log


def _untrained(
    config: Config, settings: CompactModel, catalogue: Sequence[Item], summaries: Sequence[str], device: str
) -> Ranker:
    """Make the compact model with a vocabulary of the catalogue, the summaries and the prompt."""
    lines = [SEPARATOR.join(neutralise(text) for text in item.fields.values()) for item in catalogue]
    words = [neutralise(summary) for summary in summaries]
    tokenizer = train_tokenizer(
        [*lines, *words], _prompt_words(config), config.prompt.answers, settings.vocabulary
    )
    model = place_model(build_model(settings, tokenizer, config.seed), choose_device(device))
    origin = Origin(COMPACT, f"compact-{settings.hidden}x{settings.layers}")
    return Ranker(model, tokenizer, config.prompt, config.ranking_item_tokens, origin)


def _prompt_words(config: Config) -> list[str]:
    templates = Templates(config.prompt.domain, config.prompt.templates)
    yes, no = config.prompt.answers
    return [
        templates.render("rank_compact_prefix", summary="", recent=[""], yes=yes, no=no),
        templates.render("rank_compact_suffix", candidate=""),
    ]
