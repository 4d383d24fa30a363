"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from trsr.config import Config, load, parse_overrides

ConfigPath = Annotated[
    Path | None,
    typer.Argument(metavar="[CONFIG]", help="YAML file with settings; without it, the generated demo shop."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a setting: --set summary.paradigm=none. Repeatable."
    ),
]
OutFolder = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Run folder (else runs/NAME).")]


def read_config(path: Path | None, settings: list[str] | None, out: Path | None) -> Config:
    """Read the configuration that a command was given; without a file, the demo shop."""
    overrides: dict[str, Any] = parse_overrides(settings or [])
    if path is None:
        overrides.setdefault("preset", "demo")
    if out is not None:
        overrides["out"] = str(out)
    return load(path, overrides)
