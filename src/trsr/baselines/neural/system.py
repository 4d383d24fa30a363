"""A neural system as a baseline: fitted, saved, loaded; vectors from texts to start from."""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from trsr.artifacts import write_json
from trsr.baselines.base import Places, TrainingData, share_ties
from trsr.baselines.neural.architectures import DIN, NCF, BERT4Rec, Caser, GRU4Rec, SASRec
from trsr.baselines.neural.network import DEFAULTS, ItemVectors, Network, SequentialName, Settings
from trsr.baselines.neural.training import TrainingRecord, Validation, pad, train
from trsr.baselines.text import item_texts
from trsr.errors import ArtifactError, ConfigError, DataError, ModelError
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
    name: SequentialName
    seed: int
    n_items: int
    settings: Settings
    record: TrainingRecord

    def to_json(self) -> dict[str, Any]:
        """Turn it into values that JSON knows; a figure that is no number becomes null."""
        values = asdict(self)
        if math.isnan(self.record.validation):
            values["record"]["validation"] = None
        return values


def read_card(path: Path) -> Card:
    """Read a card; raises `ArtifactError` when the file is missing, damaged or of another version."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["record"]["validation"] is None:
            values["record"]["validation"] = math.nan
        settings, record = Settings(**values.pop("settings")), TrainingRecord(**values.pop("record"))
        card = Card(settings=settings, record=record, **values)
        if card.format != FORMAT or card.name not in DEFAULTS:
            message = f"form {card.format}, system {card.name!r}"
            raise ValueError(message)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        message = f"{path}: no saved sequential system of this version ({error}); train it again"
        raise ArtifactError(message) from error
    return card


_NETWORKS: dict[SequentialName, type[Network]] = {
    "ncf": NCF,
    "din": DIN,
    "caser": Caser,
    "gru4rec": GRU4Rec,
    "sasrec": SASRec,
    "bert4rec": BERT4Rec,
    "sasrec_text": SASRec,
}
_USERS_A_CHUNK = 128
_WEIGHTS = "model.safetensors"
_CARD = "sequential.json"


class Sequential:
    """A network that learns from sequences and scores items for any history.

    An item that training never saw has as its learned part the mean of those of the items that training saw
    least often; with text vectors, its text's part is added and tells it from others. Without, all such items
    are scored alike: like a typical rare item.

    Validation users choose the epoch whose weights are kept, and nothing else; see `Validation`. The seed is
    that of weights, batches, negatives and dropout; without `settings` the name's own are taken.
    """

    def __init__(self, name: SequentialName, seed: int, settings: Settings | None = None) -> None:
        self.name = name
        self.seed = seed
        self.settings = settings or DEFAULTS[name]
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
        card = read_card(folder / _CARD)
        loaded = cls(card.name, card.seed, card.settings)
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
        self.__dict__.update(vars(Sequential.load(folder)))

    def _text(self, data: TrainingData) -> torch.Tensor | None:
        width = self.settings.text_width
        return torch.from_numpy(text_vectors(data.items, data.fields, width, self.seed)) if width else None

    def _build(self, n_items: int, text: torch.Tensor | None) -> Network:
        settings = self.settings
        items = ItemVectors(n_items, settings.width, text, settings.offset_scale)
        return _NETWORKS[self.name](items, settings)

    def _untrained(self) -> ModelError:
        return ModelError(f"{self.name} is not trained: call fit first, or load a saved one")


def open_sequential(name: str, seed: int) -> Sequential:
    """Make an untrained sequential system, one of `SEQUENTIAL_NAMES`; `ConfigError` for any other name.

    The seed is that of weights, batches, negatives and dropout.

    Examples
    --------
    >>> open_sequential("sasrec", seed=0).settings.width > 0
    True
    """
    for known in DEFAULTS:
        if known == name:
            return Sequential(known, seed)
    message = f"there is no sequential system {name!r}; take one of {', '.join(DEFAULTS)}"
    raise ConfigError(message)


def load_sequential(folder: Path) -> Sequential:
    """Read a trained system that `Sequential.save` wrote, with the same errors as `Sequential.load`."""
    return Sequential.load(folder)


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
