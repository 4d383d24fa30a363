"""The command line: one verb a stage. A command parses, calls one function, and tells where it lies."""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, Final

import typer

import trsr
from trsr.config import Config, load, parse_overrides
from trsr.errors import ConfigError, TrsrError

_INTERRUPTED: Final = 130
"""The exit code that typer gives to Ctrl-C."""

app = typer.Typer(
    name="trsr",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="""Rank items for a user from text: summarise long histories, fine-tune a language model on yes
    or no, rank by p(yes), and measure it against a floor.

    Start with `trsr run` (a generated shop, no download), look at runs/demo/report.html, then
    `trsr doctor YOUR_FOLDER` on your own tables.""",
)

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
OutFolder = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Run folder [default: runs/NAME].")
]


def _config(path: Path | None, settings: list[str] | None, out: Path | None) -> Config:
    overrides: dict[str, Any] = parse_overrides(settings or [])
    if path is None:
        overrides.setdefault("preset", "demo")
    if out is not None:
        overrides["out"] = str(out)
    return load(path, overrides)


def _run_until(stage: str | None, path: Path | None, settings: list[str] | None, out: Path | None) -> None:
    config = _config(path, settings, out)  # first: a wrong setting is told before anything heavy is loaded
    folder = trsr.run(config, until=stage, say=typer.echo)
    typer.echo(f"Run folder: {folder.path}")
    if stage in (None, "report"):
        typer.echo(f"Report: {folder.report}")


@app.command()
def run(config: ConfigPath = None, settings: Settings = None, out: OutFolder = None) -> None:
    """Run every stage: prepare, summarize, train, evaluate, report. Resumes where it was stopped."""
    _run_until(None, config, settings, out)


@app.command()
def prepare(config: ConfigPath = None, settings: Settings = None, out: OutFolder = None) -> None:
    """Read the data, choose users and targets, draw and freeze the candidates."""
    _run_until("prepare", config, settings, out)


@app.command()
def summarize(config: ConfigPath = None, settings: Settings = None, out: OutFolder = None) -> None:
    """Write each user's preference summary (and first whatever it needs)."""
    _run_until("summarize", config, settings, out)


@app.command()
def train(config: ConfigPath = None, settings: Settings = None, out: OutFolder = None) -> None:
    """Fine-tune the ranking model on answers yes or no (and first whatever it needs)."""
    _run_until("train", config, settings, out)


@app.command()
def evaluate(config: ConfigPath = None, settings: Settings = None, out: OutFolder = None) -> None:
    """Score the frozen candidates and compute the metrics (and first whatever it needs)."""
    _run_until("evaluate", config, settings, out)


@app.command()
def report(config: ConfigPath = None, settings: Settings = None, out: OutFolder = None) -> None:
    """Write the self-contained page report.html (and first whatever it needs)."""
    _run_until("report", config, settings, out)


@app.command()
def doctor(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="Folder, file or YAML configuration to examine.")
    ],
    min_history: Annotated[
        int | None,
        typer.Option("--min", help="Shortest history that takes part [default: the file's, or 11]."),
    ] = None,
    max_history: Annotated[
        int | None,
        typer.Option("--max", help="Longest; longer keep their newest [default: the file's, or 26]."),
    ] = None,
) -> None:
    """Say what is wrong with data: bad rows, unknown items, empty texts; and who survives each rule."""
    from trsr.data import doctor as examiner  # noqa: PLC0415  polars stays out of `trsr --help`

    is_config = path.suffix.lower() in (".yaml", ".yml")
    given = {"history.min": min_history, "history.max": max_history}
    config = load(
        path if is_config else None, {key: value for key, value in given.items() if value is not None}
    )
    if path.is_file() and not is_config:
        typer.echo(f"examining the folder of {path.name}")
    source = config.data if is_config else examiner.detect(path)
    typer.echo(examiner.render(examiner.examine(source, config.history)))


@app.command()
def rank(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder of a finished run.")],
    user: Annotated[str | None, typer.Option(help="A user of the run: uses their history.")] = None,
    history: Annotated[str | None, typer.Option(help="Item ids, oldest first, by comma.")] = None,
    candidates: Annotated[
        str | None,
        typer.Option(help="Item ids by comma [default: the user's frozen ones, else the catalogue]."),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Items to show.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")] = False,
) -> None:
    """Rank candidates for one user, with the summary that was used."""
    if (user is None) == (history is None):
        message = 'give either --user or --history (an empty one, --history "", ranks for a newcomer)'
        raise ConfigError(message)
    recommender = trsr.Recommender.load(run_dir)
    chosen = _ids(candidates)
    ranking = (
        recommender.rank_user(user, chosen, k)
        if user is not None
        else recommender.rank(history=_ids(history) or [], candidates=chosen, k=k)
    )
    if as_json:
        items = [{"item_id": item.item_id, "p_yes": item.p_yes} for item in ranking.items]
        typer.echo(json.dumps({"summary": ranking.summary, "items": items}, ensure_ascii=False))
        return
    typer.echo(f"Summary: {ranking.summary or '(none)'}\n")
    for place, item in enumerate(ranking.items, start=1):
        typer.echo(f"{place:>3}. {item.p_yes:.3f}  {item.item_id}  {recommender.describe(item.item_id)}")


def _ids(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def main() -> None:
    """Run the command line; errors of TRSR become one message and an exit code, never a traceback."""
    _quieten_libraries()
    try:
        app()
    except TrsrError as error:
        typer.echo(f"trsr: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        typer.echo(f"trsr: {error}; free the place or give another --out", err=True)
        sys.exit(1)
    except SystemExit as leaving:
        if leaving.code == _INTERRUPTED:
            typer.echo(
                "trsr: interrupted; what was finished is kept, run the same command to go on", err=True
            )
        raise


def _quieten_libraries() -> None:
    """Keep other libraries' notes to developers out of the output; it belongs to the stages."""
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers|peft|torch")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
