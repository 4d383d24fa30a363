"""Raw files become items, histories, targets and frozen candidates."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trsr.artifacts import RunFolder
from trsr.config import Config
from trsr.data.prepare import prepare, save
from trsr.data.readers.registry import input_files
from trsr.records import SPLIT, Finding
from trsr.stages.stage import Say, Stage


def _settings(config: Config) -> Any:
    return config.model_dump(mode="json", include={"seed", "data", "history", "split", "candidates"})


def _run(config: Config, folder: RunFolder, say: Say) -> list[Path]:
    prepared = prepare(config)
    save(prepared, folder)
    counts = dict(prepared.histories.group_by(SPLIT).len().iter_rows())
    users = ", ".join(f"{counts.get(split, 0):,} {split}" for split in ("train", "valid", "test"))
    learnt = (
        f"; {prepared.background.height:,} shorter histories to learn from"
        if prepared.background.height
        else ""
    )
    say(f"  {prepared.items.height:,} items; users: {users}{learnt}")
    tell(prepared.findings, say)
    return [folder.items, folder.histories, folder.candidates, folder.background, folder.findings]


def tell(findings: Iterable[Finding], say: Say) -> None:
    """Say what was noticed, repaired or left out, one line each."""
    for finding in findings:
        count = f"{finding.count:,}"
        told = finding.message if count in finding.message else f"{count} {finding.message}"
        say(f"  {finding.action}: {told}")


STAGE = Stage(
    name="prepare",
    purpose="read the data, choose users and targets, draw candidates",
    settings=_settings,
    needs=(),
    run=_run,
    inputs=lambda config: input_files(config.data),
)
