"""A ranker before fine-tuning: the compact model, pre-trained on the data and by questions, or another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import TrainingArguments

from trsr.artifacts import hash_value
from trsr.compact.model import build_model, start_embeddings, token_vectors, train_tokenizer
from trsr.compact.next_item import WINDOW, Framed, ItemTokens, learn, learning_arguments, pretrain
from trsr.config import Config
from trsr.config.ranking import CompactModel, EndpointModel, HuggingFaceModel, Training
from trsr.config.summary import Prompting
from trsr.errors import ArtifactError, ModelError
from trsr.hf.loading import choose_device, load_language_model, place_model
from trsr.hf.tokenization import PlainEncoder
from trsr.hf.trainer import PlannedTrainer, clear_other_run, uses_bfloat16
from trsr.prompts.item_text import SEPARATOR, neutralise
from trsr.prompts.nearest import ALIKE, Nearness
from trsr.prompts.ranking_prompt import RankingPrompt
from trsr.prompts.templates import Templates, ranking_templates
from trsr.prompts.words import joined, spaced
from trsr.ranking.ranker import COMPACT, Origin, Ranker
from trsr.ranking.shared_prefix.layout import UserPrompts
from trsr.ranking.shared_prefix.strategy import candidate_logits
from trsr.ranking.training import listwise_loss, make_trainable
from trsr.records import Item

_BATCH: Final = 16
_LEARNING_RATE: Final = 1e-3

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Question:
    """One place of one history, and the items that are asked about.

    Both `shown` (the items before, oldest first) and `asked` (the first came next) hold places of items.
    `number` is its place among the questions; it decides which words are left out.
    """

    shown: tuple[int, ...]
    asked: tuple[int, ...]
    number: int = 0


def draw_questions(
    histories: Sequence[Sequence[int]],
    items: int,
    count: int,
    seed: int,
    popular: float = 0.25,
    negatives: int = 20,
) -> list[Question]:
    """Draw questions about histories: each place once before any comes again.

    Histories hold places of items, oldest first; the seed decides places and items. The `negatives` asked
    about are drawn from all `items` of the catalogue but the history's own, a share `popular` of them by
    popularity, so that popularity alone doesn't answer; the rest uniformly.

    Examples
    --------
    >>> questions = draw_questions([[0, 1, 2]], 6, 2, seed=0)
    >>> sorted((question.shown, question.asked[0]) for question in questions)
    [((0,), 1), ((0, 1), 2)]
    >>> {item for question in questions for item in question.asked[1:]} <= {3, 4, 5}
    True
    """
    generator = np.random.default_rng(seed)
    places = [(row, place) for row, history in enumerate(histories) for place in range(1, len(history))]
    if not places or not count:
        return []
    counts = np.ones(items)
    for history in histories:
        np.add.at(counts, np.array(history, dtype=np.int64), 1.0)
    edges = np.cumsum(counts)
    rounds = -(-count // len(places))
    order = np.concatenate([generator.permutation(len(places)) for _ in range(rounds)])[:count]
    questions = []
    for number, (row, place) in enumerate(places[chosen] for chosen in order):
        history = histories[row]
        others = _draw(edges, set(history), popular, negatives, generator)
        shown = tuple(history[max(0, place - WINDOW) : place])
        questions.append(Question(shown, (history[place], *others), number))
    return questions


def rehearse(
    ranker: Ranker,
    catalogue: Sequence[Item],
    questions: Sequence[Question],
    folder: Path,
    seed: int,
    dropped: float = 0.0,
    settings: Training | None = None,
) -> list[dict[str, float]]:
    """Train a ranker on questions, in place; one that was killed goes on from `folder`.

    Each question of `draw_questions` is asked once, and names items by their place in the catalogue. `folder`
    holds the checkpoints of this training alone; the seed is the Trainer's. `dropped` is the share of an
    item's words left out each time it is read, so that no single word decides. `settings` tell a pretrained
    model's learning rate, prompts a forward pass, accumulation and precision; None: those of the compact
    model. What is trained is what asks for gradients (`make_trainable`). Returns ``{"step", "loss"}`` at each
    logged step.
    """
    asked = max((len(question.asked) for question in questions), default=1)
    if settings is None:
        settings = Training(batch_size=_BATCH * asked, precision="float32")
    size = max(1, settings.batch_size // asked)
    plan = [questions[start : start + size] for start in range(0, len(questions), size)]
    if not plan:
        return []
    arguments = learning_arguments(
        folder,
        settings.learning_rate or _LEARNING_RATE,
        -(-len(plan) // settings.accumulation),
        seed,
        gradient_accumulation_steps=settings.accumulation,
        bf16=uses_bfloat16(settings.precision),
    )
    trainer = _RehearsalTrainer(ranker, catalogue, plan, arguments, dropped)
    losses = learn(trainer, folder)
    ranker.model.eval()
    return losses


class _RehearsalTrainer(PlannedTrainer):
    """The next item against the others, by the margins between yes and no."""

    def __init__(
        self,
        ranker: Ranker,
        catalogue: Sequence[Item],
        plan: Sequence[Sequence[Question]],
        arguments: TrainingArguments,
        dropped: float,
    ) -> None:
        self._dropped = dropped
        self._ranker = ranker
        self._catalogue = catalogue
        super().__init__(ranker.model, plan, self._collate, arguments, "rehearsal")

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, *_: Any, **__: Any
    ) -> Tensor:
        """Compare the margins of each question's items."""
        users, answers = inputs["users"], self._ranker.answers
        logits = candidate_logits(model, users, (answers.yes, answers.no), self._ranker.plan)
        return listwise_loss(logits, [len(user.suffixes) for user in users], [0] * len(users))

    def _collate(self, batch: Sequence[Question]) -> dict[str, Any]:
        return {"users": [self._prompts(question) for question in batch]}

    def _prompts(self, question: Question) -> UserPrompts:
        prompt, generator = self._ranker.prompt, np.random.default_rng(question.number)
        shown, asked = (
            [_thin(self._catalogue[place], self._dropped, generator) for place in places]
            for places in (question.shown, question.asked)
        )
        return UserPrompts(prompt.prefix("", shown).ids, [prompt.suffix(item, shown).ids for item in asked])


def _thin(item: Item, dropped: float, generator: np.random.Generator) -> Item:
    """Leave out some of an item's words, never all words of a field."""
    if not dropped:
        return item
    fields = {}
    for name, text in item.fields.items():
        words = spaced(text).split()
        chances = generator.random(len(words))
        kept = [word for word, chance in zip(words, chances, strict=True) if chance >= dropped]
        fields[name] = joined(kept or words)
    return Item(item.id, fields)


def _draw(
    edges: _Floats, taken: set[int], share: float, negatives: int, generator: np.random.Generator
) -> list[int]:
    """Draw items that were not taken, each once; fewer where the catalogue is small."""
    size = 2 * negatives
    popular = np.searchsorted(edges, generator.random(size) * edges[-1], side="right")
    uniform = generator.integers(len(edges), size=size)
    drawn = np.where(generator.random(size) < share, popular, uniform)
    return [item for item in dict.fromkeys(drawn.tolist()) if item not in taken][:negatives]


_TOKENS: Final = 8192
"""Longest prompt of pre-training: room for every item that it shows."""

Log = dict[str, list[dict[str, float]]]


def fresh_ranker(
    config: Config,
    start: Path | Ranker | None,
    device: str = "auto",
    prompting: Prompting | None = None,
    catalogue: Sequence[Item] = (),
) -> Ranker:
    """Load the ranker that fine-tuning starts from.

    `start` is the ranker that `pretrain_ranker` made, or its folder; None for a model that isn't pre-trained
    here. `device` is `auto`, `cpu`, `cuda`, ... `prompting` is None for the configuration's. `catalogue` has
    every item as the prompt shows it; how rare its words are is learnt where prompts tell the nearest items.
    Raises ArtifactError when there is no compact model, and ModelError when a model can't be loaded.
    """
    settings = _loadable(config)
    prompting = prompting or config.prompt
    nearness = Nearness.of(catalogue) if prompting.nearest_items and catalogue else None
    if isinstance(settings, CompactModel):
        start = settings.start or start
    elif start is None:
        if config.training.method == "full" and settings.dtype == "auto":
            # Half-precision weights would lose most updates; training computes in bfloat16 nevertheless.
            settings = settings.model_copy(update={"dtype": "float32"})
        loaded = load_language_model(settings, device)
        origin = Origin("huggingface", loaded.identity, settings, loaded.licence)
        return Ranker(loaded.model, loaded.tokenizer, prompting, config.ranking_item_tokens, origin, nearness)
    if start is None:
        message = "there is no pre-trained compact model to start from; run `trsr train` on this run folder"
        raise ArtifactError(message)
    made = start if isinstance(start, Ranker) else Ranker.load(start, device)
    return Ranker(made.model, made.tokenizer, prompting, config.ranking_item_tokens, made.origin, nearness)


def _loadable(config: Config) -> CompactModel | HuggingFaceModel:
    if isinstance(config.model, EndpointModel):
        message = "model: a model behind a server isn't trained or loaded here; take another kind of model"
        raise ModelError(message)
    return config.model


def pretraining_settings(config: Config) -> Any:
    """Return the settings that a pre-trained model depends on, as JSON values.

    How the prompt shows a user is not among them: what is pre-trained once serves all
    paradigms and all numbers of recent items.
    """
    prompt = config.prompt
    templates = Templates(prompt.domain, prompt.templates)
    # The compact model learns all its weights, in its own way.
    taught = {} if isinstance(config.model, CompactModel) else {"training": _taught(config.training)}
    if prompt.nearest_items:
        taught["nearest"] = [prompt.nearest_items, prompt.nearest_tokens]
    return taught | {
        "seed": config.training_seed,
        "model": config.model.model_dump(mode="json"),
        "items": config.items.model_dump(mode="json"),
        "fields": config.ranking_fields,
        "item_tokens": config.ranking_item_tokens,
        "answers": prompt.answers,
        "templates": templates.versions(ranking_templates(prompt.nearest_items)),
    }


def _taught(training: Training) -> Any:
    names = {"method", "lora", "learning_rate", "batch_size", "accumulation", "precision"}
    return training.model_dump(mode="json", include=names)


def pretrain_ranker(
    config: Config,
    catalogue: Sequence[Item],
    texts: Sequence[Item],
    histories: Iterable[Sequence[str]],
    folder: Path,
    device: str = "auto",
) -> tuple[Ranker, Log]:
    """Make the compact model and ask it questions; ask them of any other model, or of adapters on it.

    The compact model first gets its words, the start of their embeddings, and next items. A run that was
    killed goes on from its last checkpoint in `folder`, a scratch folder, and ends with the weights of an
    uninterrupted one. Returns the ranker, and the losses by phase: ``next_item`` and ``questions``. Raises
    ModelError when the vocabulary or the width can't be, or a model can't be loaded or adapted.

    Parameters
    ----------
    config
        Its `model`, `prompt`, `items`, `training` and training seed are used.
    catalogue
        Every item as the ranking prompt shows it.
    texts
        The same items with all their fields, for the start of the embeddings.
    histories
        Item ids, oldest first, of users who are there to learn from; no others must be among them.
    device
        `auto`, `cpu`, `cuda`, ...
    """
    settings, seed = _loadable(config), config.training_seed
    places = {item.id: place for place, item in enumerate(catalogue)}
    told = [[places[item] for item in history] for history in histories]
    lines = [_text(item) for item in catalogue]
    whole = [_text(item) for item in texts]
    clear_other_run(folder, hash_value([pretraining_settings(config), lines, whole, told]))
    prompting = config.prompt.model_copy(update={"recent_items": WINDOW, "max_tokens": _TOKENS})
    asked = draw_questions(
        told,
        len(catalogue),
        settings.pretrain_questions,
        seed,
        settings.pretrain_popular,
        settings.pretrain_negatives,
    )
    next_item: list[dict[str, float]] = []
    training: Training | None = None
    if isinstance(settings, CompactModel):
        ranker, next_item = _compact(
            config, settings, prompting, catalogue, (lines, whole), told, folder, device
        )
    else:
        ranker = fresh_ranker(config, None, device, prompting, catalogue=catalogue)
        training = make_trainable(ranker, config.training, seed)
    questions = rehearse(
        ranker, catalogue, asked, folder / "questions", seed, settings.pretrain_word_dropout, training
    )
    return ranker, {"next_item": next_item, "questions": questions}


def _compact(
    config: Config,
    settings: CompactModel,
    prompting: Prompting,
    catalogue: Sequence[Item],
    texts: tuple[list[str], list[str]],
    told: Sequence[Sequence[int]],
    folder: Path,
    device: str,
) -> tuple[Ranker, list[dict[str, float]]]:
    """Make the compact model and teach it next items; texts are the lines of the prompt, then all fields."""
    (lines, whole), seed = texts, config.training_seed
    tokenizer = train_tokenizer(lines, _prompt_words(config), config.prompt.answers, settings.vocabulary)
    encode = PlainEncoder(tokenizer)
    where = choose_device(device)
    tower = build_model(settings, tokenizer, seed, layers=max(1, settings.layers - 1))
    vectors = token_vectors(encode(lines), encode(whole), told, len(tokenizer), settings.hidden)
    start_embeddings(tower.get_input_embeddings(), vectors)
    model = build_model(settings, tokenizer, seed)
    origin = Origin(COMPACT, f"compact-{settings.hidden}x{settings.layers}")
    nearness = Nearness.of(catalogue) if prompting.nearest_items else None
    ranker = Ranker(
        place_model(model, where), tokenizer, prompting, config.ranking_item_tokens, origin, nearness
    )
    items = item_tokens(ranker.prompt, catalogue)
    body = place_model(tower, where).model
    next_item = pretrain(body, items, told, settings, folder / "next_item", seed)
    # All but the last layer, and the embeddings, are what was trained; the last layer is new.
    model.load_state_dict(tower.state_dict(), strict=False)
    return ranker, next_item


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
    found = [
        templates.render("rank_compact_prefix", summary="", recent=[""], yes=yes, no=no),
        templates.render("rank_compact_suffix", candidate=""),
    ]
    if config.prompt.nearest_items:
        found.append(templates.render("rank_compact_nearest", nearest=[], degree=0, most=ALIKE))
    return found
