"""The commands of the service: serve, and the keys that it asks for."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

import trsr
from trsr.cli.run import MaxCalls, MaxCost
from trsr.config.summary import Limits as WriterLimits
from trsr.errors import ConfigError

KeysPath = Annotated[
    Path | None,
    typer.Option(
        "--keys",
        metavar="FILE",
        help="Keys that may come in (`trsr key` makes them); needed beyond this machine.",
    ),
]


def serve(
    path: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Folder of a finished run, or a bundle.")],
    users: Annotated[
        Path | None, typer.Option(metavar="FILE", help="users.sqlite of a run, where a bundle is served.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for a free one.")] = 8000,
    keys: KeysPath = None,
    ranker: Annotated[
        str | None, typer.Option("--with", metavar="RANKER", help="fused or language_model.")
    ] = None,
    wait_ms: Annotated[
        float, typer.Option("--wait-ms", min=0, help="How long a request waits for others to share a pass.")
    ] = 2.0,
    queue: Annotated[
        int, typer.Option(min=1, help="Requests that may wait; others are sent away (429).")
    ] = 512,
    max_candidates: Annotated[int, typer.Option(min=1, help="Candidates of a request.")] = 1000,
    max_text: Annotated[int, typer.Option(min=1, help="Characters of a text.")] = 20_000,
    max_body: Annotated[int, typer.Option(min=1, help="Bytes of a request.")] = 4 << 20,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=0.1, help="Seconds that a request may take.")
    ] = 30.0,
    summary_wait_s: Annotated[
        float,
        typer.Option("--summary-wait", min=0, help="Seconds that a history waits for a summary, at most."),
    ] = 10.0,
    max_calls: MaxCalls = None,
    max_cost: MaxCost = None,
) -> None:
    """Serve rankings, profiles and events over HTTP; see docs/serving.md.

    Caps are those of this process: when one is reached, summaries wait and rankings go on.
    """
    if find_spec("fastapi") is None or find_spec("uvicorn") is None or find_spec("prometheus_client") is None:
        message = "the service needs FastAPI, uvicorn and prometheus-client: pip install 'trsr[serve]'"
        raise ConfigError(message)
    from trsr.serve.app import run  # noqa: PLC0415
    from trsr.serve.door import Keys, is_loopback  # noqa: PLC0415  FastAPI stays out of `trsr --help`
    from trsr.serve.engine import Limits  # noqa: PLC0415

    if keys is None and not is_loopback(host):
        message = (
            f"--host {host} lets others in: make a key by `trsr key NAME --keys keys.txt` and give --keys "
            "keys.txt, or listen at 127.0.0.1"
        )
        raise ConfigError(message)
    known = None if keys is None else Keys(keys)
    limits = replace(
        Limits(),
        wait_s=wait_ms / 1000,
        queue=queue,
        candidates=max_candidates,
        text=max_text,
        body=max_body,
        timeout_s=timeout_s,
        summary_s=summary_wait_s,
    )
    recommender = trsr.Recommender.load(path, ranker, users=users)  # type: ignore[arg-type]
    recommender.limits = WriterLimits(max_calls=max_calls, max_cost=max_cost)
    run(recommender, host, port, limits, known, typer.echo)


def key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is.")],
    keys: Annotated[Path, typer.Option("--keys", metavar="FILE", help="File that its hash is added to.")],
    read_only: Annotated[
        bool, typer.Option("--read-only", help="To rank and to look, not to append, edit or delete.")
    ] = False,
) -> None:
    """Make a key for the service; it is shown once, and kept nowhere. Delete its line to end it."""
    from trsr.serve.door import make_key  # noqa: PLC0415  as above

    typer.echo(make_key(keys, name, "read" if read_only else "full"))
