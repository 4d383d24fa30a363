"""Raw files become items, histories, targets and frozen candidates."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from trsr.artifacts import hash_path
from trsr.config import Config
from trsr.data import prepare as data
from trsr.data.prepare import Prepared
from trsr.data.readers.registry import input_files
from trsr.data.text_files import require_files
from trsr.records import SPLIT, Finding
from trsr.registry import own_source
from trsr.stages.work import Artifact, Made, Say, Work
from trsr.summarize.writer import check_table


def prepare(work: Work) -> Artifact[Prepared]:
    """Read the data, choose users and their targets, and freeze candidates.

    Raises `DataError` when the data can't be read, no user is left, or the catalogue is too small.
    """
    folder = work.folder

    def make(config: Config) -> Made:
        check_table(work.config)
        prepared = data.prepare(config)
        data.save(prepared, folder)
        _tell(prepared, work.say)
        return Made([folder.items, folder.histories, folder.candidates, folder.background, folder.findings])

    return work.step(
        "prepare",
        "read the data, choose users and targets, draw candidates",
        make,
        lambda made: data.load(made.folder, captioned=False),
        settings=("seed", "data", "history", "split", "candidates"),
        content=[
            own_source("data format", work.config.data.format),
            *(hash_path(path) for path in _files(work.config) if path.exists()),
        ],
    )


def _files(config: Config) -> tuple[Path, ...]:
    given = config.candidates.file
    return (*input_files(config.data), *require_files((given,) if given is not None else ()))


def _tell(prepared: Prepared, say: Say) -> None:
    counts = dict(prepared.histories.group_by(SPLIT).len().iter_rows())
    users = ", ".join(f"{counts.get(split, 0):,} {split}" for split in ("train", "valid", "test"))
    shorter = prepared.background.height
    learnt = f"; {shorter:,} shorter histories to learn from" if shorter else ""
    say(f"  {prepared.items.height:,} items; users: {users}{learnt}")
    tell(prepared.findings, say)


def tell(findings: Iterable[Finding], say: Say) -> None:
    """Say what was noticed, repaired or left out, one line each."""
    for finding in findings:
        say(f"  {finding.action}: {finding.sentence}")
