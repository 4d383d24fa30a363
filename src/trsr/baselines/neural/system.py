"""A neural system as a baseline: fitted, saved, loaded; vectors from texts to start from."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from pydantic import Field
from safetensors.torch import load_file, save_file

from trsr.artifacts import write_json
from trsr.baselines.base import Baseline, Places, TrainingData, share_ties
from trsr.baselines.neural import architectures
from trsr.baselines.neural.network import ItemVectors, Network, NextItemSettings, PairSettings, Settings
from trsr.baselines.neural.training import TrainingRecord, Validation, pad, train
from trsr.baselines.text import item_texts
from trsr.errors import ArtifactError, DataError, ModelError
from trsr.prompts.words import words


def text_vectors(items: pl.DataFrame, fields: Sequence[str], width: int, seed: int) -> NDArray[np.float32]:
    """Turn every item's text into numbers, ``(n_items, width)``, by a randomized SVD.

    Without `fields` all text fields are read. Rows have length 1, or 0 where a text has no word that another
    text has.

    Examples
    --------
    >>> frame = pl.DataFrame({"item_id": ["a", "b", "c"], "title": ["red mug", "red cup mug", "saw"]})
    >>> vectors = text_vectors(frame, (), 2, seed=0)
    >>> vectors.shape, bool(vectors[0] @ vectors[1] > 0.9), float(abs(vectors[2]).sum())
    ((3, 2), True, 0.0)
    """
    # Who loads a trained system needs no scikit-learn.
    text, decomposition, preprocessing = (
        importlib.import_module(f"sklearn.{part}")
        for part in ("feature_extraction.text", "decomposition", "preprocessing")
    )
    vectors = np.zeros((items.height, width), dtype=np.float32)
    # A word of one item alone ties it to nothing.
    vectorizer = text.TfidfVectorizer(
        tokenizer=words,
        token_pattern=None,
        sublinear_tf=True,
        stop_words="english",
        min_df=2,
        ngram_range=(1, 2),
        dtype=np.float32,
    )
    try:
        weights = vectorizer.fit_transform(item_texts(items, fields))
    except ValueError:  # no word is left
        return vectors
    kept = min(width, min(weights.shape) - 1)
    if kept < 1:
        return vectors
    reduced = decomposition.TruncatedSVD(kept, random_state=seed).fit_transform(weights)
    vectors[:, :kept] = preprocessing.normalize(reduced)
    return vectors


FORMAT: Final = 1


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
        scores = _score(self._network, histories, candidates)
        return share_ties(scores, self._network.items.kinds, candidates)

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
        card = Card(FORMAT, self.name, self.seed, self._network.items.n_items, self.settings, self._record)
        write_json(card.to_json(), folder / _CARD)

    @classmethod
    def load(cls, folder: Path) -> Sequential:
        """Read what `save` wrote; raises `ArtifactError` when the folder holds no complete system."""
        card = read_card(folder / _CARD, cls)
        loaded = cls(seed=card.seed, **card.settings.model_dump())
        text = torch.zeros(card.n_items, card.settings.text_width) if card.settings.text_width else None
        network = loaded._build(card.n_items, text)
        try:
            network.load_state_dict(load_file(folder / _WEIGHTS))
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            reason = str(error).splitlines()[0]
            message = f"{folder / _WEIGHTS}: not the weights of {card.name} ({reason}); train it again"
            raise ArtifactError(message) from error
        loaded._network, loaded._record = _for_scoring(network.to(_device())), card.record
        return loaded

    def restore(self, folder: Path) -> None:
        """Become what `save` wrote; see `Baseline`. Raises as `load` does."""
        self.__dict__.update(vars(type(self).load(folder)))

    def _text(self, data: TrainingData) -> torch.Tensor | None:
        width = self.settings.text_width
        return torch.from_numpy(text_vectors(data.items, data.fields, width, self.seed)) if width else None

    def _build(self, n_items: int, text: torch.Tensor | None) -> Network:
        settings = self.settings
        items = ItemVectors(n_items, settings.width, text, settings.offset_scale)
        return self.network(items, settings)

    def _untrained(self) -> ModelError:
        return ModelError(f"{self.name} is not trained: call fit first, or load a saved one")


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _for_scoring(network: Network) -> Network:
    """Switch dropout off, and compute in float64: a pair's score depends on nothing that is beside it."""
    return network.eval().double()


@torch.no_grad()
def _score(network: Network, histories: Sequence[Places], candidates: Places | None) -> NDArray[np.float64]:
    items, device = network.items, network.items.learned.weight.device
    n_columns = items.n_items if candidates is None else candidates.shape[1]
    scores = np.empty((len(histories), n_columns))
    for start in range(0, len(histories), _USERS_A_CHUNK):
        rows = slice(start, start + _USERS_A_CHUNK)
        newest = [
            history[max(0, len(history) - network.settings.max_length) :] for history in histories[rows]
        ]
        read = network.read(pad(newest, items.padding).to(device))
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


class BERT4Rec(Sequential):
    """Self-attention in both directions; see `trsr.baselines.neural.architectures.BERT4Rec`."""

    label = "BERT4Rec"
    description = "Self-attention in both directions, trained to fill in hidden items."
    network = architectures.BERT4Rec


class FromTextSettings(NextItemSettings):
    """Vectors of items start from their texts."""

    text_width: int = Field(64, ge=1)
    """Numbers in a text vector."""
    offset_scale: float = Field(0.3, ge=0)
    """What the learned part is multiplied with before it is added to the text's part."""


class SASRecText(Sequential):
    """SASRec that knows texts; see `trsr.baselines.neural.architectures.SASRec`."""

    label = "SASRec from text"
    description = "SASRec whose vectors of items start from their texts."
    network = architectures.SASRec
    Settings = FromTextSettings
