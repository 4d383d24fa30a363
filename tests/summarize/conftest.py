"""Stores on both databases: what holds on one must hold on the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from postgres_server import PostgresServer, postgres_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store that doesn't exist yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'answers.db'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.make_database()
