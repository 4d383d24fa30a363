"""The command that brings summaries up to date with new events."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trsr.records import Usage


def append(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder of a run with summaries.")],
    events: Annotated[
        Path, typer.Argument(metavar="EVENTS", help="Table with user_id and item_id: .csv, .parquet, .jsonl.")
    ],
) -> None:
    """Add new events to users' histories; only blocks that changed are summarised."""
    from trsr.stages.append import append_events  # noqa: PLC0415  polars stays out of `trsr --help`

    written = append_events(run_dir, events)
    usage = sum((summary.usage for summary in written), Usage())
    typer.echo(
        f"{len(written):,} users: {usage.calls:,} calls made, {usage.calls_reused:,} answered from the store"
    )
    if failed := [summary for summary in written if summary.failed]:
        typer.echo(
            f"{len(failed):,} failed, the first is {failed[0].user_id!r}: {failed[0].failed}", err=True
        )
        raise typer.Exit(4)
