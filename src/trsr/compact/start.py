"""A ranker before fine-tuning: the compact model, pre-trained on the data, or one from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from trsr.artifacts import hash_value
from trsr.compact.model import build_model, start_embeddings, token_vectors, train_tokenizer
from trsr.compact.next_item import WINDOW, Framed, ItemTokens, pretrain
from trsr.compact.questions import draw_questions, rehearse
from trsr.config import Config
from trsr.config.ranking import CompactModel
from trsr.errors import ArtifactError
from trsr.hf.loading import choose_device, load_language_model, place_model
from trsr.hf.tokenization import PlainEncoder
from trsr.hf.trainer import clear_other_run
from trsr.prompts.item_text import SEPARATOR, neutralise
from trsr.prompts.ranking_prompt import RankingPrompt
from trsr.prompts.templates import RANKING_TEMPLATES, Templates
from trsr.ranking.ranker import COMPACT, Origin, Ranker
from trsr.records import Item

_TOKENS: Final = 8192
"""Longest prompt of pre-training: room for every item that it shows."""

Log = dict[str, list[dict[str, float]]]


def fresh_ranker(config: Config, start: Path | Ranker | None, device: str = "auto") -> Ranker:
    """Load the ranker that fine-tuning starts from.

    `start` is the compact model that `pretrain_compact` made, or its folder; None for any other model.
    `device` is `auto`, `cpu`, `cuda`, ... Raises ArtifactError when there is no compact model, and ModelError
    when a model can't be loaded.
    """
    settings = config.model
    if not isinstance(settings, CompactModel):
        loaded = load_language_model(settings, device)
        origin = Origin("huggingface", loaded.identity, settings, loaded.licence)
        return Ranker(loaded.model, loaded.tokenizer, config.prompt, config.ranking_item_tokens, origin)
    start = settings.start or start
    if start is None:
        message = "there is no pre-trained compact model to start from; run `trsr train` on this run folder"
        raise ArtifactError(message)
    made = start if isinstance(start, Ranker) else Ranker.load(start, device)
    return Ranker(made.model, made.tokenizer, config.prompt, config.ranking_item_tokens, made.origin)


def pretraining_settings(config: Config) -> Any:
    """Return the settings that a pre-trained compact model depends on, as JSON values.

    How the prompt shows a user is not among them: what is pre-trained once serves all
    paradigms and all numbers of recent items.
    """
    prompt = config.prompt
    templates = Templates(prompt.domain, prompt.templates)
    return {
        "seed": config.training_seed,
        "model": config.model.model_dump(mode="json"),
        "items": config.items.model_dump(mode="json"),
        "fields": config.ranking_fields,
        "item_tokens": config.ranking_item_tokens,
        "answers": prompt.answers,
        "templates": templates.versions(RANKING_TEMPLATES),
    }


def pretrain_compact(
    config: Config,
    catalogue: Sequence[Item],
    texts: Sequence[Item],
    histories: Iterable[Sequence[str]],
    folder: Path,
    device: str = "auto",
) -> tuple[Ranker, Log]:
    """Make the compact model: its words, the start of their embeddings, next items, then questions.

    A run that was killed goes on from its last checkpoint in `folder`, a scratch folder, and ends with the
    weights of an uninterrupted one. Returns the ranker, and the losses by phase: ``next_item`` and
    ``questions``. Raises ModelError when the vocabulary or the width can't be.

    Parameters
    ----------
    config
        Its `model`, which must be a compact one, `prompt`, `items` and training seed are used.
    catalogue
        Every item as the ranking prompt shows it.
    texts
        The same items with all their fields, for the start of the embeddings.
    histories
        Item ids, oldest first, of users who are there to learn from; no others must be among them.
    device
        `auto`, `cpu`, `cuda`, ...
    """
    settings, seed = config.model, config.training_seed
    if not isinstance(settings, CompactModel):
        message = f"only the compact model is pre-trained here, got {settings.kind!r}"
        raise TypeError(message)
    places = {item.id: place for place, item in enumerate(catalogue)}
    told = [[places[item] for item in history] for history in histories]
    lines = [_text(item) for item in catalogue]
    whole = [_text(item) for item in texts]
    clear_other_run(folder, hash_value([pretraining_settings(config), lines, whole, told]))
    tokenizer = train_tokenizer(lines, _prompt_words(config), config.prompt.answers, settings.vocabulary)
    encode = PlainEncoder(tokenizer)
    where = choose_device(device)
    tower = build_model(settings, tokenizer, seed, layers=max(1, settings.layers - 1))
    vectors = token_vectors(encode(lines), encode(whole), told, len(tokenizer), settings.hidden)
    start_embeddings(tower.get_input_embeddings(), vectors)
    model = build_model(settings, tokenizer, seed)
    prompting = config.prompt.model_copy(update={"recent_items": WINDOW, "max_tokens": _TOKENS})
    origin = Origin(COMPACT, f"compact-{settings.hidden}x{settings.layers}")
    ranker = Ranker(place_model(model, where), tokenizer, prompting, config.ranking_item_tokens, origin)
    items = item_tokens(ranker.prompt, catalogue)
    body = place_model(tower, where).model
    next_item = pretrain(body, items, told, settings, folder / "next_item", seed)
    # All but the last layer, and the embeddings, are what was trained; the last layer is new.
    model.load_state_dict(tower.state_dict(), strict=False)
    asked = draw_questions(told, len(catalogue), settings.pretrain_questions, seed, settings.pretrain_popular)
    questions = rehearse(ranker, catalogue, asked, folder / "questions", seed, settings.pretrain_word_dropout)
    return ranker, {"next_item": next_item, "questions": questions}


def item_tokens(prompt: RankingPrompt, catalogue: Sequence[Item]) -> ItemTokens:
    """Take the ranking prompt's tokens apart: what comes before the items, each item's line, each candidate.

    The prompt must show two recent items at least.
    """
    first = prompt.prefix("", catalogue[:1]).ids
    lines = [prompt.prefix("", (catalogue[0], item)).ids[len(first) :] for item in catalogue]
    head = first[: len(first) - len(lines[0])]
    return ItemTokens(head, Framed.of(lines), Framed.of([prompt.suffix(item).ids for item in catalogue]))


def _text(item: Item) -> str:
    return SEPARATOR.join(neutralise(text) for text in item.fields.values())


def _prompt_words(config: Config) -> list[str]:
    templates = Templates(config.prompt.domain, config.prompt.templates)
    yes, no = config.prompt.answers
    return [
        templates.render("rank_compact_prefix", summary="", recent=[""], yes=yes, no=no),
        templates.render("rank_compact_suffix", candidate=""),
    ]
