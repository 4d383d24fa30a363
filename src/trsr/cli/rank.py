"""The command that ranks for one user."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

import trsr
from trsr.errors import ConfigError


def rank(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder of a finished run.")],
    user: Annotated[str | None, typer.Option(help="A user of the run: uses their history.")] = None,
    history: Annotated[str | None, typer.Option(help="Item ids, oldest first, by comma.")] = None,
    candidates: Annotated[
        str | None,
        typer.Option(help="Item ids by comma (else the user's frozen ones, or the catalogue)."),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Items to show.")] = 10,
    ranker: Annotated[
        str | None,
        typer.Option(
            "--with",
            metavar="RANKER",
            help="fused or language_model (else fused, when the run has a fused ranker).",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")] = False,
) -> None:
    """Rank candidates for one user, with the summary that was used."""
    if (user is None) == (history is None):
        message = 'give either --user or --history (an empty one, --history "", ranks for a newcomer)'
        raise ConfigError(message)
    chosen = _ids(candidates)
    with trsr.Recommender.load(run_dir, ranker) as recommender:  # type: ignore[arg-type]
        ranking = (
            recommender.rank_user(user, chosen, k)
            if user is not None
            else recommender.rank(history=_ids(history) or [], candidates=chosen, k=k)
        )
    if as_json:
        items = [asdict(item) for item in ranking.items]
        typer.echo(json.dumps({"summary": ranking.summary, "items": items}, ensure_ascii=False))
        return
    typer.echo(f"Summary: {ranking.summary or '(none)'}\n")
    for place, item in enumerate(ranking.items, start=1):
        typer.echo(f"{place:>3}. {item.score:.3f}  {item.item_id}  {recommender.describe(item.item_id)}")


def _ids(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]
