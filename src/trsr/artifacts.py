"""The run folder: each artifact whole or absent, and the manifest that says which step is complete.

Every artifact is written beside its place and then renamed, so that a killed
process leaves the old one or the new one, never half of one; what it had half
written lies beside it until `sweep` finds it. A step's entry in
``manifest.json`` is written after its artifacts; its existence means "complete
for exactly this fingerprint".
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import importlib.metadata
import json
import os
import platform
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from trsr.errors import ArtifactError

_CHUNK_BYTES = 1 << 20
_PARTIAL = ".partial"


@dataclass(frozen=True, slots=True)
class Entry:
    """A complete step in the manifest.

    Parameters
    ----------
    fingerprint
        Hash of the settings and of the content that the step worked on.
    outputs
        Artifact path, relative to the folder, to its SHA-256.
    seconds
        Wall time of the step.
    finished_at
        UTC time, ISO 8601.
    details
        What else is worth telling, as JSON values.
    is_partial
        Whether the artifacts lack something that another run may add; then the step is taken again.
    """

    fingerprint: str
    outputs: Mapping[str, str]
    seconds: float
    finished_at: str
    details: Mapping[str, Any] = field(default_factory=dict)
    is_partial: bool = False


class RunFolder:
    """Paths, reads and writes of one run's artifacts; the folder is made when first written to."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.items = self.path / "dataset" / "items.parquet"
        self.histories = self.path / "dataset" / "histories.parquet"
        self.candidates = self.path / "dataset" / "candidates.parquet"
        self.background = self.path / "dataset" / "background.parquet"
        self.findings = self.path / "dataset" / "findings.json"
        self.captions = self.path / "dataset" / "captions.parquet"
        self.captioned = self.path / "dataset" / "captioned.parquet"
        self.summaries = self.path / "summaries.parquet"
        self.pretrained = self.path / "pretrained"
        self.users = self.path / "users.sqlite"
        self.bundle = self.path / "bundle"
        self.model = self.path / "model"
        self.checkpoints = self.path / "checkpoints"
        self.scores = self.path / "scores"
        self.fusion = self.path / "fusion"
        self.metrics = self.path / "metrics.json"
        self.report = self.path / "report.html"
        self.manifest = self.path / "manifest.json"

    def entries(self) -> dict[str, Entry]:
        """Read the manifest: complete steps by name; empty when there is none.

        Raises ArtifactError when the manifest is not valid JSON of this form.
        """
        if not self.manifest.exists():
            return {}
        try:
            raw = json.loads(self.manifest.read_text(encoding="utf-8"))
            return {name: Entry(**entry) for name, entry in raw.items()}
        except (json.JSONDecodeError, TypeError, AttributeError) as error:
            message = f"{self.manifest}: not a manifest ({error}); delete the run folder and run again"
            raise ArtifactError(message) from error

    def find(self, fingerprint: str) -> Entry | None:
        """Return the step that finished with `fingerprint`, when its artifacts are still what it wrote."""
        for entry in self.entries().values():
            if entry.fingerprint == fingerprint and all(
                (self.path / name).exists() and hash_path(self.path / name) == digest
                for name, digest in entry.outputs.items()
            ):
                return entry
        return None

    def mark_complete(
        self,
        step: str,
        fingerprint: str,
        outputs: Sequence[Path],
        seconds: float,
        details: Mapping[str, Any] | None = None,
        *,
        is_partial: bool = False,
    ) -> Entry:
        """Write a step's manifest entry, last of all that the step writes."""
        entry = Entry(
            fingerprint=fingerprint,
            outputs={str(path.relative_to(self.path)): hash_path(path) for path in outputs},
            seconds=round(seconds, 3),
            finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
            details=details or {},
            is_partial=is_partial,
        )
        self.write_entries({step: entry})
        return entry

    def write_entries(self, entries: Mapping[str, Entry]) -> None:
        """Put entries into the manifest, beside those of other commands that work in the folder."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            all_entries = self.entries() | dict(entries)
            write_json({name: asdict(entry) for name, entry in all_entries.items()}, self.manifest)
        finally:
            os.close(lock)

    def require(self, path: Path, stage: str) -> Path:
        """Return `path` when it exists, or raise ArtifactError naming the stage that writes it."""
        if not path.exists():
            message = f"{path} is missing: run `trsr {stage}` on this run folder first"
            raise ArtifactError(message)
        return path


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold a lock, which a killed process lets go of; False where another has it and `wait` is off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; move it there when the block ends without an error."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent.glob(f".{glob.escape(path.name)}.*"))
        handle, temporary = _make_partial(path)
    except OSError as error:
        message = f"{path}: can't be written ({error.strerror}); free the place or give another --out"
        raise ArtifactError(message) from error
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


def _make_partial(path: Path) -> tuple[int, Path]:
    """Make a file whose lock says that its writer lives; the kernel frees the lock of a killed one."""
    while True:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_PARTIAL, dir=path.parent)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if Path(name).exists():
                return handle, Path(name)
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # another process swept it before it was locked


def sweep(folder: Path) -> None:
    """Delete what killed processes left half written below `folder`, and nothing of a living one."""
    _sweep(Path(place, name) for place, _, names in os.walk(folder) for name in names)


def _sweep(paths: Iterable[Path]) -> None:
    for path in paths:
        # What others have just moved away, or isn't this user's, is theirs to look after.
        with suppress(OSError):
            if path.name.endswith(_PARTIAL):
                with path.open("rb") as stream:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()


def write_parquet(frame: pl.DataFrame, path: Path) -> None:
    """Write a frame whole or not at all."""
    with replacing(path) as temporary:
        frame.write_parquet(temporary)


def read_parquet(path: Path) -> pl.DataFrame:
    """Read a frame. Raises ArtifactError when the file is not readable as Parquet."""
    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        message = f"{path}: not a readable Parquet file ({error}); delete it and run the stage again"
        raise ArtifactError(message) from error


def write_json(value: Any, path: Path) -> None:
    """Write JSON with sorted keys, whole or not at all."""
    write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", path)


def write_text(text: str, path: Path) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def hash_path(path: Path) -> str:
    """SHA-256 of a file, or of a folder's files with their relative names, in name order."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        if file != path:
            digest.update(str(file.relative_to(path)).encode())
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()


def hash_value(value: Any) -> str:
    """SHA-256 of a JSON value with sorted keys.

    Examples
    --------
    >>> hash_value({"a": 1, "b": 2}) == hash_value({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def versions() -> dict[str, str]:
    """Name the versions that a run is made with.

    Examples
    --------
    >>> list(versions())[:2]
    ['Python', 'trsr']
    """
    packages = ("trsr", "torch", "transformers", "peft", "polars", "numpy", "scikit-learn")
    return {"Python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in packages
    }
