"""The application: every command by its name, and what becomes of errors.

A command parses, calls one function, and tells where the result lies.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Final

import typer

from trsr.cli import data, run, serve, store
from trsr.errors import DataError, TrsrError

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

for _command in (
    run.plan,
    run.run,
    run.prepare,
    run.caption,
    run.summarize,
    run.pretrain,
    run.train,
    run.evaluate,
    run.report,
    data.doctor,
    data.rank,
    data.recommend,
    data.append,
    data.export,
    run.compare,
    run.ablate,
    run.compress,
    serve.serve,
    serve.key,
):
    app.command()(_command)
app.command("import")(data.import_scores)
app.add_typer(run.studies, name="study")
app.add_typer(store.app, name="store")
app.add_typer(store.models, name="models")


def main() -> None:
    """Run the command line; errors of TRSR become one message and an exit code, never a traceback."""
    _quieten_libraries()
    sys.path.append(str(Path.cwd()))  # classes of one's own, named in the configuration, often lie here
    try:
        app()
    except TrsrError as error:
        typer.echo(f"trsr: {error}", err=True)
        if isinstance(error, DataError) and error.findings:
            typer.echo("What was noticed before:", err=True)
            typer.echo("\n".join(map(str, error.findings)), err=True)
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
