"""The command that brings summaries up to date with new events."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trsr.cli.plan import MaxCalls, MaxCost
from trsr.config.summary import Limits
from trsr.records import Usage


def append(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder of a run with summaries.")],
    events: Annotated[
        Path,
        typer.Argument(
            metavar="EVENTS",
            help="Table of events in any format of own tables. Its columns are called as in the run's data "
            "settings, or user_id, item_id and time; without times its rows are taken oldest first.",
        ),
    ],
    max_calls: MaxCalls = None,
    max_cost: MaxCost = None,
) -> None:
    """Add new events to users' histories; only blocks that changed are summarised.

    The table is read by the run's own rules for ids, times and the order of rows. Events that are known
    (user, item and second; without times: the whole table) are left out, so that the same table twice changes
    nothing; so are events older than the newest known one of their user. Caps are those of this command: the
    run's own don't hold here.
    """
    from trsr.stages.append import append_events  # noqa: PLC0415  polars stays out of `trsr --help`

    limits = Limits(max_calls=max_calls, max_cost=max_cost)
    written = append_events(run_dir, events, typer.echo, limits=limits)
    if not written:
        typer.echo("Nothing to append: histories and summaries stay as they are")
        return
    usage = sum((summary.usage for summary in written), Usage())
    typer.echo(
        f"{len(written):,} users: {usage.calls:,} calls made, {usage.calls_reused:,} answered from the store"
    )
    if failed := [summary for summary in written if summary.failed]:
        typer.echo(
            f"{len(failed):,} failed, the first is {failed[0].user_id!r}: {failed[0].failed}", err=True
        )
        raise typer.Exit(4)
