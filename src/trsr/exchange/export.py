"""Writing a run for another tool."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, assert_never

from trsr.artifacts import RunFolder
from trsr.exchange.frozen import open_frozen, system_scores
from trsr.exchange.recbole import write_recbole
from trsr.exchange.rectools import write_rectools
from trsr.exchange.tool import Tool
from trsr.exchange.trec import write_qrels, write_run
from trsr.records import Split

_RECBOLE_NAME: Final = "trsr"


def export(folder: RunFolder, to: Tool, out: Path) -> tuple[Path, ...]:
    """Write a run's frozen candidates, and the scores that lie in it, in another tool's form.

    Parameters
    ----------
    folder
        A prepared run; what is scored already is exported too.
    to
        ``trec``: qrels and runs. ``recbole``: atomic files with the split. ``rectools``: tables.
    out
        The folder to write to.

    Returns
    -------
    tuple[pathlib.Path, ...]
        What was written.

    Raises
    ------
    ArtifactError
        When the run is not prepared, or `out` can't be written.
    """
    frozen = open_frozen(folder)
    match to:
        case Tool.RECBOLE:
            return write_recbole(frozen, _RECBOLE_NAME, out)
        case Tool.RECTOOLS:
            return write_rectools(
                frozen, {_file_name(name): scores for name, scores in system_scores(folder).items()}, out
            )
        case Tool.TREC:
            paths = []
            for split in (Split.VALID, Split.TEST):
                paths.append(out / f"qrels.{split}.txt")
                write_qrels(frozen, split, paths[-1])
            for name, scores in system_scores(folder).items():
                path = out / f"run.{_file_name(name)}.txt"
                if write_run(frozen, scores, name, path):
                    paths.append(path)
            return tuple(paths)
        case _:
            assert_never(to)


def _file_name(name: str) -> str:
    """Make a system's name part of a file's name.

    Examples
    --------
    >>> _file_name("TRSR recurrent (compact)")
    'TRSR_recurrent_compact'
    """
    return re.sub(r"[^\w.+-]+", "_", name).strip("_")
