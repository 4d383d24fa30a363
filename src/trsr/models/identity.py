"""What tells one model from another of the same name: its path or id, and what lies there."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

_WHOLE_BYTES: Final = 64 << 20
_SAMPLES: Final = 64
_SAMPLE_BYTES: Final = 64 << 10
_HASH_DIGITS: Final = 16


def folder_identity(folder: Path) -> str:
    """Name a model folder by its last part and a hash of its files, so that it may be moved but not changed.

    Files up to 64 MiB are read whole; of larger ones (weights) the size and 64
    chunks spread evenly, which a fine-tuning changes, so that naming a model of many
    gigabytes takes less than a second.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "tiny"
    >>> folder.mkdir()
    >>> _ = (folder / "config.json").write_text("{}")
    >>> folder_identity(folder)
    'tiny@folder-...'
    """
    digest = hashlib.sha256()
    files = (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    for file in sorted(files):
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}\n".encode())
        with file.open("rb") as stream:
            if size <= _WHOLE_BYTES:
                digest.update(stream.read())
                continue
            for sample in range(_SAMPLES):
                stream.seek((size - _SAMPLE_BYTES) * sample // (_SAMPLES - 1))
                digest.update(stream.read(_SAMPLE_BYTES))
    return f"{folder.resolve().name}@folder-{digest.hexdigest()[:_HASH_DIGITS]}"


def served_identity(model: str, revision: str | None) -> str:
    """Name a model behind a server: its name there, and what tells apart two models of that name.

    Examples
    --------
    >>> served_identity("qwen", None), served_identity("qwen", "v2")
    ('qwen', 'qwen@v2')
    """
    return f"{model}@{revision}" if revision else model
