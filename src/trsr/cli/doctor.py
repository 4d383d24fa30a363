"""The command that examines data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trsr.config import load
from trsr.errors import DataError


def doctor(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="Folder, file or YAML configuration to examine.")
    ],
    min_history: Annotated[
        int | None,
        typer.Option("--min", help="Shortest history that takes part (else the file's, or 11)."),
    ] = None,
    max_history: Annotated[
        int | None,
        typer.Option("--max", help="Longest; longer keep their newest (else the file's, or 26)."),
    ] = None,
) -> None:
    """Say what is wrong with data, who survives each rule, and whether `prepare` takes it (else exit 2)."""
    from trsr.data import doctor as examiner  # noqa: PLC0415  polars stays out of `trsr --help`

    is_config = path.suffix.lower() in (".yaml", ".yml")
    given = {"history.min": min_history, "history.max": max_history}
    config = load(
        path if is_config else None, {key: value for key, value in given.items() if value is not None}
    )
    if path.is_file() and not is_config:
        typer.echo(f"examining the folder of {path.name}")
    if not is_config:
        config = config.model_copy(update={"data": examiner.detect(path)})
    diagnosis = examiner.examine(config)
    typer.echo(examiner.render(diagnosis))
    if diagnosis.refusal:
        raise typer.Exit(DataError.exit_code)
