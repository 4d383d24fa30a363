"""A service in this process, asked without a socket."""

from __future__ import annotations

import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
from starlette.testclient import TestClient

from trsr.artifacts import RunFolder
from trsr.config import dump, load
from trsr.recommender import Recommender
from trsr.serve.app import create_app
from trsr.serve.door import Figures, Keys
from trsr.serve.engine import Engine, Limits

T = TypeVar("T")
PATIENT = Limits(timeout_s=600, summary_s=600)
LATER = 4_000_000_000
"""Seconds; after everything that the shop has seen."""


class Served:
    """A running service with a client, and what is known of its run."""

    def __init__(self, client: TestClient, engine: Engine, path: Path) -> None:
        self.client = client
        self.engine = engine
        self.folder = RunFolder(path)
        self.items: list[str] = pl.read_parquet(self.folder.items)["item_id"].to_list()
        histories = pl.read_parquet(self.folder.histories).filter(pl.col("split") == "test")
        self.users: list[str] = histories["user_id"].to_list()

    def post(self, path: str, body: Any, **named: Any) -> Any:
        # Half characters, which other ways of writing JSON refuse, are sent as any client may.
        headers = {"content-type": "application/json"} | named.pop("headers", {})
        return self.client.post(path, content=json.dumps(body), headers=headers, **named)

    def rank(self, **body: Any) -> dict[str, Any]:
        answer = self.post("/v1/rank", body)
        assert answer.status_code == 200, answer.text
        ranking: dict[str, Any] = answer.json()
        return ranking

    def profile(self, user: str) -> dict[str, Any]:
        answer = self.client.get("/v1/profile", params={"user": user})
        assert answer.status_code == 200, answer.text
        profile: dict[str, Any] = answer.json()
        return profile

    def profile_status(self, user: str) -> int:
        return self.client.get("/v1/profile", params={"user": user}).status_code

    def append(self, *events: tuple[Any, ...]) -> dict[str, Any]:
        rows = [dict(zip(("user", "item", "time"), event, strict=False)) for event in events]
        answer = self.post("/v1/events", {"events": rows})
        assert answer.status_code == 202, answer.text
        told: dict[str, Any] = answer.json()
        return told

    def until(self, is_so: Callable[[], bool]) -> None:
        """Wait for what the background does; the time limit of the tests ends it where it never is."""
        while not is_so():
            self.client.get("/health")

    def here(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do it in the service's own event loop."""
        assert self.client.portal is not None
        return self.client.portal.call(work)


@contextmanager
def served(path: Path, limits: Limits | None = None, keys: Keys | None = None) -> Iterator[Served]:
    """Serve a run folder."""
    figures = Figures()
    engine = Engine(Recommender.load(path), limits or PATIENT, figures.batch.observe)
    app = create_app(engine, figures, keys)
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        yield Served(client, engine, path)


@contextmanager
def held_up(served: Served) -> Iterator[None]:
    """Keep the model's thread busy, so that requests wait."""
    busy, free = threading.Event(), threading.Event()

    def wait() -> None:
        busy.set()
        free.wait()

    served.engine._model._thread.submit(wait)
    busy.wait()
    try:
        yield
    finally:
        free.set()


def written_by(server_url: str, path: Path, **more: Any) -> None:
    """Let a model behind a server write a run's summaries from now on."""
    writer = {"kind": "endpoint", "base_url": server_url, "model": "counted"}
    config = load(path / "config.yaml", {"summary.writer": writer, **more})
    (path / "config.yaml").write_text(dump(config), encoding="utf-8")
