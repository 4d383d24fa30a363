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
from pydantic import Field

from trsr.baselines.item_encoder import ItemEncoder, Vectors
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

    Settings = LanguageModelSettings
    texts_a_step = 32

    def _reader(self) -> Callable[[Sequence[str]], Vectors]:
        library = importlib.import_module("trsr.hf.text_encoders")
        encoder = library.StateEncoder(self._model, self.settings.pooling, self.settings.max_tokens)

        def read(texts: Sequence[str]) -> Vectors:
            vectors: Vectors = encoder(texts)
            if encoder.cut:
                told = f"of {encoder.cut:,} texts only the first {self.settings.max_tokens} tokens are read"
                self.notes = [f"{told} (max_tokens)"]
            return vectors

        return read


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
