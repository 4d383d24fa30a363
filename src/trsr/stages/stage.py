"""What a stage is: a name, what it depends on, and one function that writes its artifacts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trsr import __version__
from trsr.artifacts import RunFolder, hash_path, hash_value
from trsr.config import Config

Say = Callable[[str], None]


def no_inputs(config: Config) -> tuple[Path, ...]:
    """Return nothing: most stages read only what earlier stages wrote."""
    return ()


def no_scratch(folder: RunFolder) -> tuple[Path, ...]:
    """Return nothing: most stages are quick enough to start again."""
    return ()


def never_partial(folder: RunFolder) -> bool:
    """Return False: what most stages wrote is all there is."""
    return False


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a run.

    Parameters
    ----------
    purpose
        One line, shown when it starts.
    settings
        What its artifacts depend on, as JSON values.
    needs
        Names of the stages whose artifacts it reads.
    run
        Does the work; returns the paths of its artifacts.
    inputs
        Files outside the run folder that it reads.
    scratch
        What it keeps in the run folder to go on from when it is killed; deleted once it is complete.
    is_partial
        Whether what it wrote lacks something that another run may add; then it runs again.
    optional
        Whether the run goes on without it when it fails; then the next run tries it again.
    """

    name: str
    purpose: str
    settings: Callable[[Config], Any]
    needs: Sequence[str]
    run: Callable[[Config, RunFolder, Say], list[Path]]
    inputs: Callable[[Config], tuple[Path, ...]] = no_inputs
    scratch: Callable[[RunFolder], tuple[Path, ...]] = no_scratch
    is_partial: Callable[[RunFolder], bool] = never_partial
    optional: bool = False

    def fingerprint(self, config: Config, folder: RunFolder) -> str:
        """Hash of everything that the stage's artifacts depend on."""
        complete = folder.stages()
        return hash_value(
            {
                "version": __version__,
                "settings": self.settings(config),
                "inputs": [hash_path(path) for path in self.inputs(config) if path.exists()],
                "needs": {name: dict(complete[name].outputs) for name in self.needs if name in complete},
            }
        )
