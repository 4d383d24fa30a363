"""The run folder: each artifact whole or absent, and the manifest that says which stage is complete.

Every artifact is written beside its place and then renamed, so that a killed
process leaves the old one or the new one, never half of one; what it had half
written lies beside it until `sweep` finds it. A stage's entry in
``manifest.json`` is written after its artifacts; its existence means "complete
for exactly this fingerprint".
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from trsr.errors import ArtifactError

_CHUNK_BYTES = 1 << 20
_PARTIAL = ".partial"


@dataclass(frozen=True, slots=True)
class StageEntry:
    """A complete stage in the manifest.

    Parameters
    ----------
    fingerprint
        Hash of the settings and inputs that the stage was run with.
    outputs
        Artifact path, relative to the run folder, to its SHA-256.
    seconds
        Wall time of the stage.
    finished_at
        UTC time, ISO 8601.
    """

    fingerprint: str
    outputs: Mapping[str, str]
    seconds: float
    finished_at: str


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
        self.summaries = self.path / "summaries.parquet"
        self.pretrained = self.path / "pretrained"
        self.users = self.path / "users.sqlite"
        self.bundle = self.path / "bundle"
        self.model = self.path / "model"
        self.checkpoints = self.path / "checkpoints"
        self.scores = self.path / "scores.parquet"
        self.baselines = self.path / "baselines.parquet"
        self.fusion = self.path / "fusion"
        self.fused = self.path / "fused.parquet"
        self.metrics = self.path / "metrics.json"
        self.report = self.path / "report.html"
        self.manifest = self.path / "manifest.json"

    def stages(self) -> dict[str, StageEntry]:
        """Read the manifest: complete stages by name; empty when there is none.

        Raises ArtifactError when the manifest is not valid JSON of this form.
        """
        if not self.manifest.exists():
            return {}
        try:
            raw = json.loads(self.manifest.read_text(encoding="utf-8"))
            return {name: StageEntry(**entry) for name, entry in raw.items()}
        except (json.JSONDecodeError, TypeError, AttributeError) as error:
            message = f"{self.manifest}: not a manifest ({error}); delete the run folder and run again"
            raise ArtifactError(message) from error

    def is_complete(self, stage: str, fingerprint: str) -> bool:
        """Say whether `stage` finished with `fingerprint` and its artifacts are still what it wrote."""
        entry = self.stages().get(stage)
        if entry is None or entry.fingerprint != fingerprint:
            return False
        return all(
            (self.path / name).exists() and hash_path(self.path / name) == digest
            for name, digest in entry.outputs.items()
        )

    def mark_complete(self, stage: str, fingerprint: str, outputs: Sequence[Path], seconds: float) -> None:
        """Write the stage's manifest entry, last of all that the stage writes."""
        entry = StageEntry(
            fingerprint=fingerprint,
            outputs={str(path.relative_to(self.path)): hash_path(path) for path in outputs},
            seconds=round(seconds, 3),
            finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        entries = self.stages() | {stage: entry}
        write_json({name: asdict(value) for name, value in entries.items()}, self.manifest)

    def require(self, path: Path, stage: str) -> Path:
        """Return `path` when it exists, or raise ArtifactError naming the stage that writes it."""
        if not path.exists():
            message = f"{path} is missing: run `trsr {stage}` on this run folder first"
            raise ArtifactError(message)
        return path


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
