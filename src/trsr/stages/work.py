"""A run folder at work: each step is made once for the same settings and content, and read afterwards."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Generic, TypeVar, cast

from trsr import __version__
from trsr.artifacts import Entry, RunFolder, hash_value
from trsr.config import Config
from trsr.hf import processes
from trsr.records import Finding

T = TypeVar("T")
Say = Callable[[str], None]

SKIPPED: Final = ": complete, skipped"
"""How the line of a step ends that was complete before."""

_FINDINGS: Final = "findings"


@dataclass(frozen=True, slots=True)
class Made:
    """What a step wrote: its artifacts, and what else the manifest is to tell of it; see `Entry`.

    Of what was found on the way it tells no examples: no file but the tables is to name a user.
    """

    outputs: Sequence[Path]
    details: Mapping[str, Any] = field(default_factory=dict)
    is_partial: bool = False
    findings: Sequence[Finding] = ()


class Artifact(Generic[T]):
    """A step's result: where it lies, its content's hash, and its value, which is read once, when needed."""

    def __init__(self, folder: RunFolder, entry: Entry, load: Callable[[Artifact[T]], T]) -> None:
        self.folder = folder
        self.entry = entry
        self._load = load

    @property
    def digest(self) -> str:
        """Hash of the content."""
        return hash_value(dict(self.entry.outputs))

    @property
    def path(self) -> Path:
        """The first of the files or folders."""
        return self.folder.path / next(iter(self.entry.outputs))

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found on the way."""
        return tuple(Finding(**row) for row in self.entry.details.get(_FINDINGS, ()))

    @cached_property
    def value(self) -> T:
        """What the step made."""
        return self._load(self)


def path_of(artifact: Artifact[Path]) -> Path:
    """Let a file or folder itself be an artifact's value."""
    return artifact.path


class Work:
    """One configuration and the folder that it works in; `say` is called with lines for people.

    A step is handed the settings that it names, and no others. What one of the `sources` has already is used
    where it lies. Where several processes take the same steps `together`, all read what was made before as it
    is, also what lacks something, and the main one alone writes.
    """

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        say: Say = print,
        sources: Sequence[RunFolder] = (),
        *,
        together: bool = False,
    ) -> None:
        self.config = config
        self.folder = folder
        self.say = say
        self.limits = config.summary.limits
        """What may still be paid for: captions and summaries are paid from one cap."""
        self._sources = [source for source in sources if source.path != folder.path]
        self._together = together

    def step(
        self,
        name: str,
        purpose: str,
        make: Callable[[Config], Made],
        load: Callable[[Artifact[T]], T],
        *,
        settings: Sequence[str],
        free: Sequence[str] = (),
        content: Any = None,
        scratch: Sequence[Path] = (),
    ) -> Artifact[T]:
        """Give a step's result: from the folder when it is complete, else made now.

        The manifest calls it by its name; a step without a purpose isn't spoken of. `make` does the work, and
        `load` reads what it wrote. `settings` are the dotted names of the settings that decide the result,
        `free` further ones that `make` may read, which change no result, such as the size of batches; others
        it can't read. `content` is what else the result depends on, as JSON values: hashes of what it is made
        from. `scratch` is kept to go on from after a kill, and deleted when the step is complete.
        """
        fingerprint = hash_value(
            {
                "version": __version__,
                "step": name,
                "settings": _values(self.config, settings, free),
                "content": content,
            }
        )
        for folder in (self.folder, *self._sources):
            entry = folder.find(fingerprint)
            if entry is not None and (self._together or not entry.is_partial):
                self._tell(purpose, f"{name}{SKIPPED}")
                return Artifact(folder, entry, load)
        self._tell(purpose, f"{name}: {purpose}")
        started = time.monotonic()
        made = make(only(self.config, *settings, *free))
        if not processes.is_main():
            return Artifact(self.folder, Entry(fingerprint, {}, 0, ""), load)
        found = [asdict(replace(finding, examples=())) for finding in made.findings]
        entry = self.folder.mark_complete(
            name,
            fingerprint,
            made.outputs,
            time.monotonic() - started,
            {**made.details, **({_FINDINGS: found} if found else {})},
            is_partial=made.is_partial,
        )
        for path in scratch:
            shutil.rmtree(path, ignore_errors=True)
        return Artifact(self.folder, entry, load)

    def _tell(self, purpose: str, line: str) -> None:
        if purpose:
            self.say(line)


def only(config: Config, *names: str) -> Config:
    """Show some settings of a configuration, by their dotted names: reading another one is an error.

    A step's fingerprint tells of the settings that it names. One that it read and didn't name would change
    its result unnoticed.

    Examples
    --------
    >>> shown = only(Config(), "summary.paradigm", "seed", "training.seed")
    >>> shown.summary.paradigm, shown.training_seed
    ('recurrent', 0)
    >>> shown.summary.writer
    Traceback (most recent call last):
    ...
    LookupError: the step reads the setting summary.writer, which it doesn't name
    """
    return cast(Config, _Shown(config, frozenset(names), ""))


class _Shown:
    __slots__ = ("_at", "_names", "_section")

    def __init__(self, section: Any, names: frozenset[str], at: str) -> None:
        self._section, self._names, self._at = section, names, at

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        dotted = f"{self._at}{name}"
        if dotted in self._names:
            return getattr(self._section, name)
        if any(named.startswith(f"{dotted}.") for named in self._names):
            return _Shown(getattr(self._section, name), self._names, f"{dotted}.")
        derived = getattr(type(self._section), name, None)
        if isinstance(derived, property) and derived.fget is not None:
            return derived.fget(self)
        message = f"the step reads the setting {dotted}, which it doesn't name"
        raise LookupError(message)


def _values(config: Config, settings: Sequence[str], free: Sequence[str]) -> dict[str, Any]:
    everything = config.model_dump(mode="json")
    for name in free:
        *parents, last = name.split(".")
        _inner(everything, parents).pop(last, None)
    found = {}
    for name in settings:
        *parents, last = name.split(".")
        found[name] = _inner(everything, parents)[last]
    return found


def _inner(values: Any, parents: Sequence[str]) -> Any:
    for parent in parents:
        values = values.get(parent, {})
    return values
