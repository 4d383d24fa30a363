"""A neural system as a baseline: fitted, saved, loaded; by itself, or from vectors of texts."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from safetensors.torch import load_file, save_file

from trsr.artifacts import write_json
from trsr.baselines.base import Baseline, share_ties
from trsr.baselines.item_encoder import VectorSettings, open_encoder, start_table
from trsr.baselines.neural import architectures
from trsr.baselines.neural.network import (
    Adapter,
    ItemVectors,
    Network,
    NextItemNetwork,
    NextItemSettings,
    PairSettings,
    Settings,
)
from trsr.baselines.neural.training import TrainingRecord, pad, train
from trsr.baselines.reducer import ReducerName
from trsr.baselines.training_data import Places, TrainingData
from trsr.baselines.validation import Validation
from trsr.errors import ArtifactError, DataError, ModelError

FORMAT: Final = 2


@dataclass(frozen=True, slots=True)
class Card:
    """What makes a saved system whole besides its weights: what the network is made from, how it was trained.

    `format` is the version of the file's form.
    """

    format: int
    name: str
    seed: int
    n_items: int
    settings: Settings
    record: TrainingRecord
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Turn it into values that JSON knows; a figure that is no number becomes null."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        record = asdict(self.record)
        if math.isnan(self.record.validation):
            record["validation"] = None
        return {**values, "settings": self.settings.model_dump(mode="json"), "record": record}


def read_card(path: Path, system: type[Sequential]) -> Card:
    """Read a card; raises `ArtifactError` when the file is missing, damaged, of another version or system."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["record"]["validation"] is None:
            values["record"]["validation"] = math.nan
        settings = system.Settings.model_validate(values.pop("settings"))
        card = Card(settings=settings, record=TrainingRecord(**values.pop("record")), **values)
        if card.format != FORMAT or card.name != system.kind():
            message = f"form {card.format}, system {card.name!r}"
            raise ValueError(message)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        message = f"{path}: no saved {system.kind()} of this version ({error}); train it again"
        raise ArtifactError(message) from error
    return card


_USERS_A_CHUNK = 128
_WEIGHTS = "model.safetensors"
_TEXT = "items.text"
_CARD = "sequential.json"


class Sequential(Baseline):
    """A network that learns from sequences and scores items for any history.

    An item that training never saw has as its learned part the mean of those of the items that training saw
    least often; with text vectors, its text's part is added and tells it from others. Without, all such items
    are scored alike: like a typical rare item.

    Validation users choose the epoch whose weights are kept, and nothing else; see `Validation`. The seed is
    that of weights, batches, negatives and dropout. A class of its own names its network and its settings.
    """

    stochastic = True
    network: ClassVar[type[Network]]
    """What is trained."""
    Settings: ClassVar[type[Settings]] = NextItemSettings

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.name = self.kind()
        self._network: Network | None = None
        self._record: TrainingRecord | None = None

    @property
    def record(self) -> TrainingRecord:
        """How it was trained; raises `ModelError` before `fit`."""
        if self._record is None:
            raise self._untrained()
        return self._record

    def fit(self, data: TrainingData) -> None:
        """Train; see `Baseline`. When it is interrupted, the system stays as it was.

        Raises `DataError` when there is no sequence to learn from, `ModelError` when training diverges.
        """
        if not data.sequences:
            message = (
                f"{self.name} learns from sequences of 2 items or more, and there are none; lower history.min"
            )
            raise DataError(message)
        device, validation = _device(), Validation(data)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            network = self._build(data.items.height, self._text(data)).to(device)
            counts = torch.from_numpy(data.counts).to(device)
            record = train(
                network,
                data.sequences,
                counts,
                lambda: validation(partial(_score, network)),
                self.seed,
                self.name,
            )
        self._network, self._record = _for_scoring(network), record

    def score(
        self, users: Sequence[str], histories: Sequence[Places], candidates: Places | None = None
    ) -> NDArray[np.float64]:
        """Score by the network; see `Baseline`. Raises `ModelError` before `fit`."""
        if self._network is None:
            raise self._untrained()
        if candidates is None and histories and (vectors := self.item_vectors()) is not None:
            scores = self.history_vectors(histories) @ vectors.T
        else:
            scores = _score(self._network, histories, candidates)
        return share_ties(scores, self._network.items.kinds, candidates)

    @torch.no_grad()
    def item_vectors(self) -> NDArray[np.float64] | None:
        """Give the vectors that last states are multiplied with, made once; see `Baseline`."""
        network = self._network
        if not isinstance(network, NextItemNetwork):
            return None
        kept: tuple[Network, NDArray[np.float64]] | None = self.__dict__.get("_table")
        if kept is None or kept[0] is not network:
            places = torch.arange(network.items.n_items, device=network.items.learned.weight.device)
            kept = self.__dict__["_table"] = network, network.items(places).double().cpu().numpy()
        return kept[1]

    @torch.no_grad()
    def history_vectors(self, histories: Sequence[Places]) -> NDArray[np.float64]:
        """Read histories to their last states; see `Baseline`."""
        if self._network is None:
            raise self._untrained()
        chunks = range(0, len(histories), _USERS_A_CHUNK)
        read = [_read(self._network, histories[start : start + _USERS_A_CHUNK]) for start in chunks]
        return torch.cat(read).double().cpu().numpy()

    def save(self, folder: Path) -> None:
        """Write weights (safetensors) and, last, `sequential.json`, which makes it complete.

        Raises `ModelError` before `fit`.
        """
        if self._network is None or self._record is None:
            raise self._untrained()
        folder.mkdir(parents=True, exist_ok=True)
        weights = {
            name: value.float().cpu().contiguous() for name, value in self._network.state_dict().items()
        }
        save_file(weights, folder / _WEIGHTS)
        n_items = self._network.items.n_items
        card = Card(FORMAT, self.name, self.seed, n_items, self.settings, self._record, self.notes)
        write_json(card.to_json(), folder / _CARD)

    @classmethod
    def load(cls, folder: Path) -> Sequential:
        """Read what `save` wrote; raises `ArtifactError` when the folder holds no complete system."""
        card = read_card(folder / _CARD, cls)
        loaded = cls(seed=card.seed, **card.settings.model_dump())
        try:
            weights = load_file(folder / _WEIGHTS)
            network = loaded._build(card.n_items, weights.get(_TEXT, torch.empty(0))[: card.n_items])
            network.load_state_dict(weights)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            reason = str(error).splitlines()[0]
            message = f"{folder / _WEIGHTS}: not the weights of {card.name} ({reason}); train it again"
            raise ArtifactError(message) from error
        loaded._network, loaded._record = _for_scoring(network.to(_device())), card.record
        loaded.notes = tuple(card.notes)
        return loaded

    def restore(self, folder: Path) -> None:
        """Become what `save` wrote; see `Baseline`. Raises as `load` does."""
        self.__dict__.update(vars(type(self).load(folder)))

    def _text(self, data: TrainingData) -> torch.Tensor:
        """Return vectors of the items' texts, ``(n_items, text_width)``; nothing without texts."""
        return torch.empty(0)

    def _build(self, n_items: int, text: torch.Tensor) -> Network:
        return self.network(ItemVectors(n_items, self.settings.width), self.settings)

    def _untrained(self) -> ModelError:
        return ModelError(f"{self.name} is not trained: call fit first, or load a saved one")


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _for_scoring(network: Network) -> Network:
    """Switch dropout off, and compute in float64: a pair's score depends on nothing that is beside it."""
    return network.eval().double()


def _read(network: Network, histories: Sequence[Places]) -> torch.Tensor:
    newest = [history[max(0, len(history) - network.settings.max_length) :] for history in histories]
    return network.read(pad(newest, network.items.padding).to(network.items.learned.weight.device))


@torch.no_grad()
def _score(network: Network, histories: Sequence[Places], candidates: Places | None) -> NDArray[np.float64]:
    items, device = network.items, network.items.learned.weight.device
    n_columns = items.n_items if candidates is None else candidates.shape[1]
    scores = np.empty((len(histories), n_columns))
    for start in range(0, len(histories), _USERS_A_CHUNK):
        rows = slice(start, start + _USERS_A_CHUNK)
        read = _read(network, histories[rows])
        for first in range(0, n_columns, network.candidates_a_chunk):
            columns = slice(first, min(first + network.candidates_a_chunk, n_columns))
            if candidates is None:
                asked = torch.arange(columns.start, columns.stop, device=device)
            else:
                asked = torch.from_numpy(candidates[rows, columns].astype(np.int64)).to(device)
            scores[rows, columns] = network.match(read, asked).double().cpu().numpy()
    return scores


class NCF(Sequential):
    """Neural collaborative filtering; see `trsr.baselines.neural.architectures.NCF`."""

    label = "NCF"
    description = (
        "Neural collaborative filtering: learned vectors of user and item, joined by a small network."
    )
    network = architectures.NCF
    Settings = PairSettings


class DIN(Sequential):
    """Deep interest network; see `trsr.baselines.neural.architectures.DIN`."""

    label = "DIN"
    description = "Deep interest network: attends to those items of the history that resemble the candidate."
    network = architectures.DIN
    Settings = PairSettings


class Caser(Sequential):
    """Convolutions over the newest items; see `trsr.baselines.neural.architectures.Caser`."""

    label = "Caser"
    description = "Convolutions over the last items of the history."
    network = architectures.Caser


class OneLayerSettings(NextItemSettings):
    """A network of one layer."""

    layers: int = Field(1, ge=1)
    """Layers on top of the item vectors."""


class GRU4Rec(Sequential):
    """A recurrent network; see `trsr.baselines.neural.architectures.GRU4Rec`."""

    label = "GRU4Rec"
    description = "A recurrent network reads the history item by item."
    network = architectures.GRU4Rec
    Settings = OneLayerSettings


class SASRec(Sequential):
    """Self-attention to what came before; see `trsr.baselines.neural.architectures.SASRec`."""

    label = "SASRec"
    description = "Self-attention over the history, with a learned vector for every item."
    network = architectures.SASRec


class ESASRec(Sequential):
    """SASRec with gated layers; see `trsr.baselines.neural.architectures.ESASRec`.

    Its two other parts, a shifted sequence as the target and a sampled softmax as the loss, are those of
    every system here that foretells the next item. Source: Tikhonovich et al., eSASRec: enhancing
    transformer-based recommendations in a modular fashion, RecSys 2025 (arXiv 2508.06450).
    """

    label = "eSASRec"
    description = "SASRec whose attention and feed-forward layers are gated (LiGR)."
    network = architectures.ESASRec


class BERT4Rec(Sequential):
    """Self-attention in both directions; see `trsr.baselines.neural.architectures.BERT4Rec`."""

    label = "BERT4Rec"
    description = "Self-attention in both directions, trained to fill in hidden items."
    network = architectures.BERT4Rec


class FromVectors(Sequential):
    """A network whose items start from vectors of their texts; see `ItemVectors`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        open_encoder(self.settings.encoder, self.seed)  # what it lacks is told before the long work

    def _text(self, data: TrainingData) -> torch.Tensor:
        vectors, self.notes = start_table(self.settings, data, self.seed)
        return torch.from_numpy(vectors)

    def _build(self, n_items: int, text: torch.Tensor) -> Network:
        settings = self.settings
        items = ItemVectors(n_items, settings.width, text, settings.adapter, settings.offset_scale)
        return self.network(items, settings)


class FromVectorsSettings(VectorSettings, NextItemSettings):
    """Vectors of items start from those of their texts."""

    adapter: Adapter = "none"
    """What a text's vector goes through before it is an item's: `none`, `linear` or `mlp` (two layers), which
    are learned with the network."""
    offset_scale: float = Field(1.0, ge=0)
    """What the learned part of an item is multiplied with before it is added to the text's part. Without an
    adapter, 1 is a table that starts from the vectors and is trained; 0 keeps the vectors frozen. AdamW's
    steps don't depend on the gradient's size, so that this is the learned part's share of the learning rate:
    below 1, items move away from their texts slowly."""
    length: float = Field(1.0, gt=0)
    """Root mean square length that the vectors are scaled to."""


class LLM2SASRec(FromVectors):
    """SASRec whose table of items starts from vectors of their texts.

    Source: Harte et al., Leveraging large language models for sequential recommendation, RecSys 2023.
    """

    label = "LLM2SASRec"
    description = "SASRec whose items start from vectors of their texts."
    network = architectures.SASRec
    Settings = FromVectorsSettings


class LLM2BERT4Rec(FromVectors):
    """BERT4Rec whose table of items starts from vectors of their texts; source as `LLM2SASRec`."""

    label = "LLM2BERT4Rec"
    description = "BERT4Rec whose items start from vectors of their texts."
    network = architectures.BERT4Rec
    Settings = FromVectorsSettings


class OneLayerFromVectorsSettings(FromVectorsSettings):
    """A network of one layer."""

    layers: int = Field(1, ge=1)
    """Layers on top of the item vectors."""


class LLM2GRU4Rec(FromVectors):
    """GRU4Rec whose table of items starts from vectors of their texts; source as `LLM2SASRec`."""

    label = "LLM2GRU4Rec"
    description = "GRU4Rec whose items start from vectors of their texts."
    network = architectures.GRU4Rec
    Settings = OneLayerFromVectorsSettings


class SASRecTextSettings(FromVectorsSettings):
    """Words, a linear layer, and a learned part that grows slowly."""

    reducer: ReducerName = "none"
    """How vectors become as wide as they are needed."""
    adapter: Adapter = "linear"
    """What a text's vector goes through."""
    offset_scale: float = Field(0.3, ge=0)
    """What the learned part is multiplied with before it is added to the text's part."""


class SASRecText(LLM2SASRec):
    """LLM2SASRec from the words of texts, by a linear layer, as it did best without any model."""

    label = "SASRec from text"
    description = "SASRec whose vectors of items start from their texts."
    Settings = SASRecTextSettings
