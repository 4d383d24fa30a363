"""The command that tells the bill before it is made."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

import trsr
from trsr.cli.options import ConfigPath, OutFolder, Settings, read_config
from trsr.config import Config

Measure = Annotated[
    int,
    typer.Option(
        "--measure",
        metavar="N",
        min=0,
        help="Make N real calls first, to know time and length; they are stored and not paid for again.",
    ),
]
MaxCalls = Annotated[
    int | None,
    typer.Option("--max-calls", min=0, help="Stop when so many calls are paid for; answers are kept."),
]
MaxCost = Annotated[
    float | None,
    typer.Option("--max-cost", min=0, help="Stop at so much money, by summary.price; answers are kept."),
]


def plan(
    config: ConfigPath = None,
    settings: Settings = None,
    out: OutFolder = None,
    measure: Measure = 0,
    max_calls: MaxCalls = None,
    max_cost: MaxCost = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")] = False,
) -> None:
    """Tell calls, tokens, time and money of the summaries, for both paradigms, before the first call."""
    show_plan(read_config(config, [*(settings or []), *caps(max_calls, max_cost)], out), measure, as_json)


def caps(max_calls: int | None, max_cost: float | None) -> list[str]:
    """Write the caps as settings."""
    given = {"summary.limits.max_calls": max_calls, "summary.limits.max_cost": max_cost}
    return [f"{key}={value}" for key, value in given.items() if value is not None]


def show_plan(config: Config, measure: int = 0, as_json: bool = False) -> None:
    """Prepare the data, and print what the summaries will cost."""
    from trsr.stages import plan as planning  # noqa: PLC0415  polars stays out of `trsr --help`

    folder = trsr.run(config, until="prepare", say=lambda line: typer.echo(line, err=True))
    forecasts = planning.plan(config, folder, measure)
    if as_json:
        rows: dict[str, Any] = {
            each.bill.name: each.bill.as_json() | {"basis": each.basis} for each in forecasts
        }
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    typer.echo(planning.render(forecasts))
