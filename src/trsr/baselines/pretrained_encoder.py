"""Texts of items as vectors by pretrained models, each text read once on a machine."""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
import sqlite3
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import numpy as np
import polars as pl
from pydantic import Field

from trsr.baselines.item_encoder import ItemEncoder, Vectors
from trsr.baselines.training_data import Places
from trsr.config.ranking import Lora
from trsr.config.section import Section
from trsr.errors import ArtifactError
from trsr.hf.known_models import cache_folder
from trsr.progress import Progress


class PretrainedEncoder(ItemEncoder):
    """An encoder of texts whose vectors are kept, so that a text is read once by a model on a machine."""

    learnt = ("_model",)
    texts_a_step: ClassVar[int] = 256
    """Texts that are read before they are kept."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._model: str = self.settings.model

    @abstractmethod
    def _reader(self) -> Callable[[Sequence[str]], Vectors]:
        """Load the model, and return what reads texts."""

    def encode(self, keys: Sequence[str]) -> Vectors:
        """Read the texts that were never read before; see `ItemEncoder`."""
        if not keys:
            return np.empty((0, 0), np.float32)
        encoders = importlib.import_module("trsr.hf.text_encoders")  # torch, when a model is asked for
        settings = self.settings.model_dump(mode="json", exclude={"model"})
        owner = json.dumps([type(self).__name__, encoders.encoder_identity(self._model), settings])
        known = kept_vectors(owner, keys)
        unknown = list(dict.fromkeys(key for key in keys if key not in known))
        if unknown:
            read = self._reader()
            with Progress(f"vectors by {self._model}", len(unknown), "texts") as progress:
                for start in range(0, len(unknown), self.texts_a_step):
                    part = unknown[start : start + self.texts_a_step]
                    made = dict(zip(part, read(part), strict=True))
                    keep_vectors(owner, made)
                    known |= made
                    progress.advance(len(part))
        vectors = np.stack([known[key] for key in keys])
        vectors[[not key.strip() for key in keys]] = 0.0
        return vectors

    def save(self, folder: Path) -> None:
        """Write what was learnt, and the model where it lies in a folder of this machine; see `Learnt`."""
        super().save(folder)
        if Path(self._model).is_dir():
            shutil.copytree(self._model, folder / _MODEL, dirs_exist_ok=True)

    def restore(self, folder: Path) -> None:
        """Read what `save` wrote; see `Learnt`."""
        super().restore(folder)
        if (folder / _MODEL).exists():
            self._model = str(folder / _MODEL)


_MODEL: Final = "encoder"


class PretrainedSettings(Section):
    """Which model reads."""

    model: str
    """Folder, hub id or known name (`trsr models list`)."""

    def content(self) -> str:
        """Name the weights; see `trsr.registry.identity`."""
        named: str = importlib.import_module("trsr.hf.text_encoders").encoder_identity(self.model)
        return named


class Sentence(PretrainedEncoder):
    """A sentence-transformers model; needs the extra `embeddings`."""

    Settings = PretrainedSettings

    def _reader(self) -> Callable[[Sequence[str]], Vectors]:
        library = importlib.import_module("trsr.hf.text_encoders")
        read: Callable[[Sequence[str]], Vectors] = library.sentence_encoder(self._model)
        return read


class LanguageModelSettings(PretrainedSettings):
    """Which model reads, and what of its states is the vector."""

    pooling: Literal["mean", "last"] = "mean"
    """Mean of a text's states, or the last one."""
    max_tokens: int = Field(64, ge=1)
    """Tokens of a text that are read."""


class LanguageModelStates(PretrainedEncoder):
    """The last hidden states of any causal language model."""

    Settings: ClassVar[type[Section]] = LanguageModelSettings
    texts_a_step = 32

    @property
    def _lifted(self) -> bool:
        """Whether every token of a text sees later ones."""
        return False

    def _reader(self) -> Callable[[Sequence[str]], Vectors]:
        library = importlib.import_module("trsr.hf.text_encoders")
        pooling, most = self.settings.pooling, self.settings.max_tokens
        encoder = library.StateEncoder(self._model, pooling, most, lifted=self._lifted)

        def read(texts: Sequence[str]) -> Vectors:
            vectors: Vectors = encoder(texts)
            if encoder.cut:
                told = f"of {encoder.cut:,} texts only the first {self.settings.max_tokens} tokens are read"
                self.notes = [f"{told} (max_tokens)"]
            return vectors

        return read


class Step(Section):
    """How long a step of learning is, and how fast."""

    steps: int = Field(0, ge=0)
    """Updates; 0 leaves the step out."""
    batch_size: int = Field(32, ge=1)
    """Rows a forward pass."""
    accumulation: int = Field(1, ge=1)
    """Forward passes an update."""
    learning_rate: float = Field(1e-4, gt=0)
    """Peak learning rate of AdamW; linear decay."""
    warmup: int = Field(0, ge=0)
    """Updates in which the learning rate rises."""


class CsftStep(Step):
    """Collaborative supervised fine-tuning: which title comes next."""

    steps: int = Field(600, ge=0)
    """Updates; 0 leaves the step out."""
    batch_size: int = Field(8, ge=1)
    """Histories a forward pass."""
    warmup: int = Field(50, ge=0)
    """Updates in which the learning rate rises."""
    items: int = Field(10, ge=1)
    """Titles that are read, at most, before the one that is asked for."""


class MntpStep(Step):
    """Masked next token prediction: hidden tokens of a title from all others, the causal mask lifted."""

    steps: int = Field(200, ge=0)
    """Updates; 0 leaves the step out, and then later ones and the vectors keep the causal mask."""
    masked: float = Field(0.2, gt=0, lt=1)
    """Share of a title's tokens that are asked for: 8 of 10 become a blank, one another token, one stays."""


class SimcseStep(Step):
    """SimCSE: two readings of a title under dropout, told from other titles of the batch."""

    steps: int = Field(200, ge=0)
    """Updates; 0 leaves the step out."""
    batch_size: int = Field(64, ge=2)
    """Titles a forward pass, each other's negatives."""
    dropout: float = Field(0.2, gt=0, lt=1)
    """Share of attention weights dropped."""
    temperature: float = Field(0.1, gt=0)
    """What cosines are divided by."""


class LLM2RecSettings(LanguageModelSettings):
    """Which model learns, by which steps, and what of its states is the vector."""

    csft: CsftStep = CsftStep()
    """First, titles of histories one after the other: what is taken together."""
    mntp: MntpStep = MntpStep()
    """Then each title by itself: to be read as a whole."""
    simcse: SimcseStep = SimcseStep()
    """Then each title against others: to lie apart."""
    method: Literal["full", "lora"] = "full"
    """Train all weights, or adapters, which are merged after each step."""
    lora: Lora = Lora()
    """The adapters, when adapters are trained."""
    learning_seed: int = 0
    """Seed of order, blanks, dropout and adapters. The system's own seed is that of what is built on the
    vectors, so that several seeds of it share one language model."""


class LLM2Rec(LanguageModelStates):
    """A language model that has learnt from training histories which titles go together.

    What a step made is kept on a machine, in ``llm2rec`` of the cache folder, by all that it was made from.
    Source: He et al., LLM2Rec: large language models are powerful embedding models for sequential
    recommendation, KDD 2025.
    """

    Settings = LLM2RecSettings

    def keys(self, items: pl.DataFrame, fields: Sequence[str]) -> list[str]:
        """Return texts of one line each; see `ItemEncoder`."""
        return [" ".join(text.split()) for text in super().keys(items, fields)]

    def fit(self, keys: Sequence[str], histories: Sequence[Places] = ()) -> None:
        """Learn step by step, or take what was learnt before; see `ItemEncoder`.

        Raises `DataError` when there is nothing to learn from, `ModelError` when the model can't learn.
        """
        library = importlib.import_module("trsr.baselines.neural.llm2rec")
        self._model = library.learn(self.settings, keys, histories)

    @property
    def _lifted(self) -> bool:
        return bool(self.settings.mntp.steps)


def kept_vectors(owner: str, texts: Sequence[str]) -> dict[str, Vectors]:
    """Return what is kept of an encoder's texts; raises `ArtifactError` when the file can't be used."""
    by_hash = {_hash(owner, text): text for text in texts}
    with _opened() as connection:
        rows = [
            row
            for key in by_hash
            for row in connection.execute("SELECT key, numbers FROM vectors WHERE key = ?", (key,))
        ]
    return {by_hash[key]: np.frombuffer(numbers, np.dtype("<f4")) for key, numbers in rows}


def keep_vectors(owner: str, made: Mapping[str, Vectors]) -> None:
    """Keep vectors of an encoder's texts; raises `ArtifactError` when the file can't be used."""
    rows = [(_hash(owner, text), vector.astype("<f4").tobytes()) for text, vector in made.items()]
    with _opened() as connection, connection:
        connection.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)


def _hash(owner: str, text: str) -> bytes:
    return hashlib.blake2b(f"{owner}\0{text}".encode(), digest_size=24).digest()


@contextmanager
def _opened() -> Iterator[sqlite3.Connection]:
    """Open the vectors of this machine, ``vectors.db`` in the cache folder; several programs may at once."""
    path = cache_folder() / "vectors.db"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=60)) as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, numbers BLOB NOT NULL)"
            )
            yield connection
    except (sqlite3.Error, OSError) as error:
        message = f"{path}: can't be used ({error}); delete it, all in it is made anew, or set TRSR_CACHE"
        raise ArtifactError(message) from error
