"""The ranker: a model, its tokenizer, its prompt and its two answers, kept together on disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from transformers import (
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from trsr.artifacts import hash_value, write_json
from trsr.config.ranking import HuggingFaceModel, Lora
from trsr.config.summary import Prompting
from trsr.data.dataset import Catalogue
from trsr.errors import ArtifactError, ConfigError, DataError, ModelError
from trsr.hf.adapters import add_adapter, has_adapter, require_effect, save_base, train_adapter
from trsr.hf.compression import ranks_of
from trsr.hf.loading import (
    choose_device,
    load_language_model,
    positions,
    read_adapter,
    read_weights,
    require_sound,
    without_bars,
)
from trsr.hf.tokenization import PlainEncoder, TokenizerTokens, leading_ids
from trsr.prompts.nearest import Nearness
from trsr.prompts.ranking_prompt import RankingPrompt
from trsr.prompts.templates import Templates, template_files
from trsr.ranking.scoring import Answers, EncodedUser, RankingUser, encode_users, find_answers, score
from trsr.ranking.shared_prefix.forward import PrefixMemory
from trsr.ranking.shared_prefix.strategy import Plan, choose
from trsr.records import Item

if TYPE_CHECKING:
    from peft import PeftModel

COMPACT: Final = "compact"
"""The kind of the built-in model."""
CARD: Final = "ranker.json"
BASE: Final = "base"
"""Folder inside a ranker's: the model that its adapter sits on."""
WORDS: Final = "words.json"
"""File inside a ranker's: by which words items are alike, where its prompt tells that."""
TEMPLATES: Final = "templates"
"""Folder inside a ranker's: the own templates that its prompts were made by."""
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the weights come from.

    Parameters
    ----------
    kind
        ``compact`` for the built-in model, ``huggingface`` for any other.
    identity
        What the report calls it: name and revision.
    base
        The model that an adapter sits on; None when the base weights are saved with the ranker.
    licence
        What the files of the weights say themselves; None when they don't.
    """

    kind: str
    identity: str
    base: HuggingFaceModel | None = None
    licence: str | None = None


class CandidateScorer(Protocol):
    """Whatever scores candidates by a language model; higher is better."""

    def score(
        self, users: Sequence[RankingUser], batch_tokens: int = ..., *, title: str | None = ...
    ) -> list[NDArray[np.float64]]:
        """Return scores, one array of shape ``(n_candidates,)`` a user; see `Ranker.score`."""
        ...


class Ranker:
    """Answers yes or no about candidates.

    Parameters
    ----------
    model
        A causal language model, with or without adapter.
    tokenizer
        Its tokenizer.
    prompting
        Settings of the prompt.
    item_tokens
        Cap of an item's line.
    origin
        Where the weights come from.
    nearness
        Knows which items are alike; needed where `prompting.nearest_items` are told.

    Raises
    ------
    ModelError
        When the answers are not single tokens of this model.
    ConfigError
        When the token budget is impossible.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        prompting: Prompting,
        item_tokens: int,
        origin: Origin,
        nearness: Nearness | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.origin = origin
        encoder = PlainEncoder(tokenizer)
        room = positions(model)
        # The answer takes a position, too, where training reads it.
        fitting = prompting.max_tokens if room is None else min(prompting.max_tokens, room - 1)
        lowered = fitting < prompting.max_tokens
        prompting = prompting.model_copy(update={"max_tokens": fitting})
        try:
            self.prompt = RankingPrompt(
                Templates(prompting.domain, prompting.templates),
                encoder,
                TokenizerTokens(encoder),
                prompting,
                item_tokens=item_tokens,
                leading=leading_ids(tokenizer),
                terse=origin.kind == COMPACT,
                nearness=nearness,
            )
        except ConfigError as error:
            if not lowered:
                raise
            message = (
                f"{origin.identity}: the model has {room} positions, which is too short for the prompt "
                f"({error}); lower prompt.item_tokens, or take a model with a longer context"
            )
            raise ModelError(message) from error
        self.answers: Answers = find_answers(
            encoder, self.prompt.slot(), prompting.answers, tokenizer.unk_token_id
        )

    def with_model(self, model: PreTrainedModel) -> Ranker:
        """Return a ranker that asks another model of the same tokenizer in the same way."""
        prompt = self.prompt
        return Ranker(
            model, self.tokenizer, prompt.prompting, prompt.item_tokens, self.origin, prompt.nearness
        )

    def adapt(self, settings: Lora) -> None:
        """Let adapters be trained and nothing else: those that are on the model, or else fresh ones.

        Raises `ModelError` when the model has no module to adapt.
        """
        model = self.model
        if has_adapter(model):
            train_adapter(model)
            return
        self.model = add_adapter(cast("PreTrainedModel", model), settings)
        self.__dict__.pop("plan", None)

    @cached_property
    def plan(self) -> Plan:
        """How prompts go through this model, found out by trying when first needed."""
        return choose(self.model)

    def encode(self, users: Sequence[RankingUser]) -> list[EncodedUser]:
        """Turn ranking tasks into this model's token ids."""
        return encode_users(users, self.prompt)

    def score(
        self,
        users: Sequence[RankingUser],
        batch_tokens: int = 16384,
        *,
        memory: PrefixMemory | None = None,
        title: str | None = None,
    ) -> list[NDArray[np.float64]]:
        """Return p(yes), one array of shape ``(n_candidates,)`` a user.

        Parameters
        ----------
        users
            Ranking tasks.
        batch_tokens
            Tokens a batch, padding included, of models that take one prompt per candidate.
        memory
            Where prefixes are kept for a user's next request.
        title
            What the progress bar says; None for no bar.
        """
        return self.score_encoded(self.encode(users), batch_tokens, memory=memory, title=title)

    def score_encoded(
        self,
        encoded: Sequence[EncodedUser],
        batch_tokens: int = 16384,
        *,
        memory: PrefixMemory | None = None,
        title: str | None = None,
    ) -> list[NDArray[np.float64]]:
        """Do what `score` does, of tasks that are token ids already."""
        return score(self.model, encoded, self.answers, self.plan, batch_tokens, memory=memory, title=title)

    def save(self, folder: Path, *, weights: bool = True) -> None:
        """Write weights, tokenizer, own templates and, last, `ranker.json`: it is complete then.

        Without `weights` they stay where they came from, as of a model that nothing was trained of.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with without_bars():
            if has_adapter(self.model):
                if self.origin.base is None:
                    save_base(self.model, folder / BASE)
                # A merged adapter is part of the base: other tools must not leave it out.
                named = BASE if self.origin.base is None else self.origin.base.path
                self.model.peft_config["default"].base_model_name_or_path = named
                self.model.save_pretrained(str(folder), save_embedding_layers=False)
            elif weights:
                self.model.save_pretrained(str(folder))
        self.tokenizer.save_pretrained(folder)
        if self.prompt.nearness is not None:
            self.prompt.nearness.save(folder / WORDS)
        (folder / "README.md").unlink(missing_ok=True)
        base, prompting = self.origin.base, self.prompt.prompting
        if prompting.templates is not None:
            (folder / TEMPLATES).mkdir(exist_ok=True)
            for path in template_files(prompting.templates):
                shutil.copyfile(path, folder / TEMPLATES / path.name)
            prompting = prompting.model_copy(update={"templates": Path(TEMPLATES)})
        card: dict[str, Any] = {
            "format": _FORMAT,
            "kind": self.origin.kind,
            "identity": self.origin.identity,
            "licence": self.origin.licence,
            "base": None if base is None else base.model_dump(mode="json"),
            "adapter": has_adapter(self.model),
            "weights": weights and not has_adapter(self.model),
            "prompting": prompting.model_dump(mode="json"),
            "item_tokens": self.prompt.item_tokens,
            "templates": self.prompt.versions,
            "answers": asdict(self.answers),
            "prompt_ids": self._prompt_ids(),
        }
        if ranks := ranks_of(self.model):  # of a compressed model
            card["ranks"] = ranks
        write_json(card, folder / CARD)

    def _prompt_ids(self) -> str:
        """Hash an empty prompt's ids, by which a change of the tokenizer shows."""
        return hash_value([*self.prompt.prefix("", ()).ids, *self.prompt.suffix(Item("", {})).ids])

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> Ranker:
        """Read a ranker that `save` wrote.

        Raises
        ------
        ArtifactError
            When the folder holds no complete ranker, or its templates have changed since.
        ModelError
            When the weights can't be loaded, or the adapter doesn't change the logits.
        """
        card = read_card(folder)
        prompting, origin = _settings(card, folder)
        try:
            # AutoTokenizer would go by the architecture, whose own tokenizer splits text differently.
            source = PreTrainedTokenizerFast if origin.kind == COMPACT else AutoTokenizer
            tokenizer = source.from_pretrained(folder)
            with without_bars():
                model = _load_weights(folder, card, origin, device)
            require_sound(model, tokenizer)
        # A broken file raises whatever its reader raises.
        except Exception as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            message = f"{folder}: can't load the ranker's weights: {reason}; train again"
            raise ModelError(message) from error
        nearness = Nearness.load(folder / WORDS) if prompting.nearest_items else None
        ranker = cls(model.eval(), tokenizer, prompting, card["item_tokens"], origin, nearness)
        _compare(ranker, card, folder)
        if has_adapter(model):
            require_effect(model, [*ranker.prompt.prefix("", ()).ids, ranker.answers.yes])
        return ranker


def read_card(folder: Path) -> dict[str, Any]:
    """Read what `Ranker.save` says of a ranker, without its weights.

    Raises `ArtifactError` when there is no complete ranker.
    """
    path = folder / CARD
    try:
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        message = f"{path} is missing: run `trsr train` on this run folder first"
        raise ArtifactError(message) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        message = f"{path}: not a readable ranker card ({error}); train again"
        raise ArtifactError(message) from error
    if card.get("format") != _FORMAT:
        message = f"{path}: format must be {_FORMAT}, got {card.get('format')!r}; train again"
        raise ArtifactError(message)
    return card


def _settings(card: dict[str, Any], folder: Path) -> tuple[Prompting, Origin]:
    try:
        base = None if card["base"] is None else HuggingFaceModel.model_validate(card["base"])
        origin = Origin(card["kind"], card["identity"], base, card.get("licence"))
        if not isinstance(card["item_tokens"], int) or not isinstance(card["adapter"], bool):
            message = "item_tokens must be a number and adapter true or false"
            raise TypeError(message)
        prompting = Prompting.model_validate(card["prompting"])
        if prompting.templates is not None:  # a relative path is one inside the folder
            prompting = prompting.model_copy(update={"templates": folder / prompting.templates})
        return prompting, origin
    except (KeyError, TypeError, ValidationError) as error:
        message = f"{folder / CARD}: a setting is missing or wrong ({error}); train again"
        raise ArtifactError(message) from error


def _load_weights(
    folder: Path, card: dict[str, Any], origin: Origin, device: str
) -> PreTrainedModel | PeftModel:
    place = choose_device(device)
    if card.get("weights", not card["adapter"]):
        return read_weights(folder, place, card.get("ranks"))
    if origin.base is None:
        base = read_weights(folder / BASE, place)
    elif (folder / BASE).is_dir():  # a bundle has the base in it
        inside = origin.base.model_copy(update={"path": str(folder / BASE)})
        base = load_language_model(inside, device).model
    else:
        loaded = load_language_model(origin.base, device)
        if loaded.identity != origin.identity:
            message = (
                f"it was made from {origin.identity}, and {origin.base.path} is {loaded.identity} now; put "
                "the old files back"
            )
            raise ModelError(message)
        base = loaded.model
    return read_adapter(base, folder) if card["adapter"] else base


def _compare(ranker: Ranker, card: dict[str, Any], folder: Path) -> None:
    """Refuse a ranker whose prompt would no longer be what the model was trained on."""
    now = {
        "templates": ranker.prompt.versions,
        "answers": asdict(ranker.answers),
        "prompt_ids": ranker._prompt_ids(),
    }
    for name, value in now.items():
        if card.get(name) != value:
            message = (
                f"{folder / CARD}: the model was trained with {name} {card.get(name)}, but they are "
                f"{value} now; put the old ones back or train again"
            )
            raise ArtifactError(message)


def score_lists(
    ranker: CandidateScorer,
    catalogue: Catalogue,
    summaries: Mapping[str, str] | None,
    users: Sequence[str],
    histories: Sequence[NDArray[np.int32]],
    offered: Sequence[NDArray[np.int32]],
    *,
    batch_tokens: int = 16384,
    title: str | None = None,
) -> list[NDArray[np.float64]]:
    """Return the scores of lists of candidates, p(yes) of a `Ranker`; any lengths, items may be repeated.

    Parameters
    ----------
    summaries
        What the model is told of each user; None: of nobody anything.
    histories, offered
        Places in the catalogue, one array a user.
    batch_tokens, title
        See `Ranker.score`.

    Raises
    ------
    DataError
        When a user has no summary and others have.
    """
    if summaries is not None and (lacking := [user for user in users if user not in summaries]):
        message = f"{len(lacking)} users have no summary, the first is {lacking[0]!r}; summarise them first"
        raise DataError(message)
    items = catalogue.items(catalogue.ids)
    distinct = [np.unique(row) for row in offered]
    tasks = [
        RankingUser(
            user,
            "" if summaries is None else summaries[user],
            tuple(items[place] for place in history),
            tuple(items[place] for place in row),
        )
        for user, history, row in zip(users, histories, distinct, strict=True)
    ]
    scores = ranker.score(tasks, batch_tokens, title=title)
    return [
        p_yes[np.searchsorted(asked, row)]
        for p_yes, asked, row in zip(scores, distinct, offered, strict=True)
    ]
