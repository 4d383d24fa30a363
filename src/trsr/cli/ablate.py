"""The command that changes one setting at a time."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated

import typer

from trsr.cli.options import ConfigPath, OutFolder, Settings, read_config

Only = Annotated[
    str | None,
    typer.Option(
        "--only",
        metavar="NAMES",
        help="Only these dimensions, by comma: --only summary,recent_items,grid (else all).",
    ),
]
Seeds = Annotated[
    str | None,
    typer.Option("--seeds", metavar="NUMBERS", help="Training seeds, by comma (else those of `ablation`)."),
]


def ablate(
    config: ConfigPath = None,
    only: Only = None,
    seeds: Seeds = None,
    settings: Settings = None,
    out: OutFolder = None,
) -> None:
    """Change one setting at a time and measure what it is worth, on the same users and candidates.

    Dimensions: summary (none, recurrent, hierarchical), recent_items, block_size, writer, tokens (loss on
    the answer or on all tokens), negatives, loss (pointwise, listwise), method (LoRA ranks, full), and
    grid: summary and recent items together, each alone, none.

    Stop it when you like: the same command goes on, and what is complete is never trained again.
    """
    chosen = [] if seeds is None else [f"ablation.seeds=[{seeds}]"]
    resolved = read_config(config, [*(settings or []), *chosen], out)
    from trsr.experiments.ablate import ablate as run_ablation  # noqa: PLC0415  torch stays out of help

    names = None if only is None else [name.strip() for name in only.split(",") if name.strip()]
    command = shlex.join(["trsr", *sys.argv[1:]])
    written = run_ablation(resolved, only=names, command=command, say=typer.echo)
    typer.echo(f"\nFigures: {written.figures}")
    typer.echo(f"Report: {written.page}")
