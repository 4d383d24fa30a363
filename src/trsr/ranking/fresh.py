"""A ranker before fine-tuning: the compact model, pre-trained here, or a language model from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trsr.config import Config
from trsr.config.ranking import CompactModel
from trsr.models.compact import build_model, train_tokenizer
from trsr.models.loading import choose_device, load_language_model, place_model
from trsr.models.pretraining import GameOfAnswers, pretrain
from trsr.models.tokenization import PlainEncoder
from trsr.prompts.item_text import item_line
from trsr.prompts.templates import Templates
from trsr.prompts.tokens import ApproximateTokens
from trsr.ranking.ranker import Origin, Ranker
from trsr.records import Item

_WHOLE_LINE = 1 << 20


def fresh_ranker(
    config: Config,
    catalogue: Sequence[Item],
    histories: Sequence[Sequence[Item]],
    folder: Path,
    device: str = "auto",
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

    Returns
    -------
    tuple
        The ranker, and the pre-training's losses (none for a model from elsewhere).
    """
    settings = config.model
    if not isinstance(settings, CompactModel):
        loaded = load_language_model(settings, device)
        origin = Origin("huggingface", loaded.identity, settings)
        return Ranker(loaded.model, loaded.tokenizer, config.prompt, config.items.max_tokens, origin), []
    return _compact_ranker(config, settings, catalogue, histories, folder, device)


def _compact_ranker(
    config: Config,
    settings: CompactModel,
    catalogue: Sequence[Item],
    histories: Sequence[Sequence[Item]],
    folder: Path,
    device: str,
) -> tuple[Ranker, list[dict[str, float]]]:
    lines = [item_line(item, ApproximateTokens(), _WHOLE_LINE) for item in catalogue]
    templates = Templates(config.prompt.domain, config.prompt.templates)
    yes, no = config.prompt.answers
    words = [
        templates.render("rank_compact_prefix", summary="", recent=[""], yes=yes, no=no),
        templates.render("rank_compact_suffix", candidate=""),
    ]
    tokenizer = train_tokenizer(lines, words, config.prompt.answers, settings.vocabulary)
    model = place_model(build_model(settings, tokenizer, config.seed), choose_device(device))
    identity = f"compact-{settings.hidden}x{settings.layers}"
    ranker = Ranker(model, tokenizer, config.prompt, config.items.max_tokens, Origin("compact", identity))
    answers = (ranker.answers.yes, ranker.answers.no)
    game = GameOfAnswers(ranker.prompt, answers, PlainEncoder(tokenizer)(["\n"])[0], catalogue)
    log = pretrain(model, game, histories, settings, folder, config.seed)
    ranker.model.eval()
    return ranker, log
