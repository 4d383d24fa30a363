"""Commands that run several systems on the same users and candidates."""

from __future__ import annotations

import re
import shlex
import sys
from typing import Annotated

import typer

from trsr.cli.run import ConfigPath, OutFolder, Settings, read_config
from trsr.errors import ConfigError

Only = Annotated[
    str | None,
    typer.Option(
        "--only",
        metavar="NAMES",
        help="Only these systems, by comma: --only sasrec,tfidf,recurrent (else all of `comparison`).",
    ),
]
Seeds = Annotated[
    str | None,
    typer.Option(
        "--seeds",
        metavar="NUMBERS",
        help="Training seeds, by comma: --seeds 0,1 (else those of `comparison`).",
    ),
]
Dimensions = Annotated[
    str | None,
    typer.Option(
        "--only",
        metavar="NAMES",
        help="Only these dimensions, by comma: --only summary,recent_items,grid (else all).",
    ),
]
AblationSeeds = Annotated[
    str | None,
    typer.Option("--seeds", metavar="NUMBERS", help="Training seeds, by comma (else those of `ablation`)."),
]
Users = Annotated[
    bool,
    typer.Option("--users/--no-users", help="Show single users on the page; without, it can be passed on."),
]


def compare(
    config: ConfigPath = None,
    only: Only = None,
    seeds: Seeds = None,
    settings: Settings = None,
    out: OutFolder = None,
    users: Users = True,
) -> None:
    """Train and score every system on the same users; write one table.

    Systems: those of comparison.baselines, your own among them as
    package.module:Class; the language model as tallrec (whole history, no
    summary), hierarchical and recurrent; fused (the form that validation
    chose, joined with fusion.companions); and all that `trsr import` brought
    in.

    Split and candidates stay those of the run's seed; seeds train again, and
    a table to be believed has three or more. Two samplers of negatives stand
    side by side, then ranks in the whole catalogue and a two-stage ranking.
    Everything is chosen on validation users.

    For a first look: trsr compare CONFIG --only popularity,tfidf,itemknn

    Stop it when you like: the same command goes on where it was, and what is
    complete is not trained again.
    """
    resolved = read_config(config, [*(settings or []), *_seed_setting("comparison", seeds)], out)
    from trsr.experiments.compare import compare as run_comparison  # noqa: PLC0415  torch stays out of help

    written = run_comparison(resolved, only=_names(only), command=_command(), users=users, say=typer.echo)
    typer.echo(f"\nTable: {written.csv}")
    typer.echo(f"Report: {written.page}")


def ablate(
    config: ConfigPath = None,
    only: Dimensions = None,
    seeds: AblationSeeds = None,
    settings: Settings = None,
    out: OutFolder = None,
) -> None:
    """Change one setting at a time and measure what it is worth, on the same users and candidates.

    Dimensions: summary (none, recurrent, hierarchical), recent_items, block_size, writer, tokens (loss on
    the answer or on all tokens), negatives, loss (pointwise, listwise), method (LoRA ranks, full), and
    grid: summary and recent items together, each alone, none.

    Stop it when you like: the same command goes on, and what is complete is never trained again.
    """
    resolved = read_config(config, [*(settings or []), *_seed_setting("ablation", seeds)], out)
    from trsr.experiments.ablate import ablate as run_ablation  # noqa: PLC0415  torch stays out of help

    written = run_ablation(resolved, only=_names(only), command=_command(), say=typer.echo)
    typer.echo(f"\nFigures: {written.figures}")
    typer.echo(f"Report: {written.page}")


def _names(only: str | None) -> list[str] | None:
    return (
        None if only is None else [name.strip() for name in re.split(r",(?![^(]*\))", only) if name.strip()]
    )


def _command() -> str:
    return shlex.join(["trsr", *sys.argv[1:]])


def _seed_setting(section: str, seeds: str | None) -> list[str]:
    if seeds is None:
        return []
    numbers = [number.strip() for number in seeds.split(",")]
    if not all(number.isdecimal() for number in numbers):
        message = f"--seeds must be whole numbers by comma, such as --seeds 0,1,2, got {seeds!r}"
        raise ConfigError(message)
    return [f"{section}.seeds=[{','.join(numbers)}]"]
