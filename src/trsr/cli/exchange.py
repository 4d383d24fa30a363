"""Commands that exchange candidates and scores with other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trsr.exchange.tool import Tool

RunDir = Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder of a prepared run.")]


def export(
    run_dir: RunDir,
    to: Annotated[Tool, typer.Option("--to", help="Whose files to write.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write to.")],
) -> None:
    """Write the frozen candidates, and all scores so far, for TREC tools, RecBole or RecTools."""
    from trsr.artifacts import RunFolder  # noqa: PLC0415  polars stays out of `trsr --help`
    from trsr.exchange import export as exporter  # noqa: PLC0415

    paths = exporter.export(RunFolder(run_dir), to, out)
    for path in paths:
        typer.echo(path)


def import_scores(
    run_dir: RunDir,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="TREC run, CSV, TSV or Parquet: user_id, item_id, score.")
    ],
    name: Annotated[str, typer.Option("--name", help="What tables call the outside system.")],
) -> None:
    """Put another system's scores of the frozen candidates into the run, so that it is compared too."""
    from trsr.artifacts import RunFolder  # noqa: PLC0415  polars stays out of `trsr --help`
    from trsr.exchange import bring  # noqa: PLC0415

    typer.echo(f"Imported: {bring.import_scores(RunFolder(run_dir), file, name)}")
