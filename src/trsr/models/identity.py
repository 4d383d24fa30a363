"""What tells one model from another of the same name: its path or id, and what lies there."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Final

from trsr.config.summary import EndpointWriter

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


def served_identity(writer: EndpointWriter) -> str:
    """Name a model behind a server: its name there, its revision, and what is unlike in how it is asked.

    Settings of the request that change an answer are part of it; the name of the
    limit changes none. What a provider refuses by itself is no part: it refuses it to
    everyone who asks for that model, so the same question is the same request.

    Examples
    --------
    >>> from trsr.config.summary import RequestBody
    >>> writer = EndpointWriter(kind="endpoint", base_url="http://localhost/v1", model="qwen")
    >>> served_identity(writer)
    'qwen'
    >>> served_identity(writer.model_copy(update={"revision": "v2", "request": RequestBody(omit=("seed",))}))
    'qwen@v2 {"omit": ["seed"]}'
    """
    request = writer.request.model_dump(mode="json", exclude_defaults=True, exclude={"max_tokens_name"})
    if "omit" in request:
        request["omit"].sort()
    asked = f" {json.dumps(request, sort_keys=True, ensure_ascii=False)}" if request else ""
    return (f"{writer.model}@{writer.revision}" if writer.revision else writer.model) + asked
