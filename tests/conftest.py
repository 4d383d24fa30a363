"""What is costly and only read: finished runs, a tiny chat model and its server; without any download."""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, settings

from small_run import FUSED, MadeOnce, small_config
from trsr.artifacts import RunFolder
from trsr.config import Config
from trsr.config.summary import EndpointWriter

# Tiny models gain nothing from a second thread, and lose much when the cores are busy. The models' libraries
# are imported where they are used: the process that hands the tests out to others needs none.
os.environ["OMP_NUM_THREADS"] = "1"

# A busy machine is no failure. Where CI is set, Hypothesis draws the same examples in every run.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


_SERVER_START_S = 600.0


def pytest_collection_finish() -> None:
    """Take what was imported out of what is looked through for garbage, as each training does at its end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all workers of a session find what one of them made."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def made_once(shared: Path) -> MadeOnce:
    """Give the folder of a name, which the first of all workers that wants it fills; it is only read."""

    def give(name: str, make: Callable[[Path], object]) -> Path:
        home = shared / name
        home.mkdir(parents=True, exist_ok=True)
        folder, done = home / name, home / "done"
        with FileLock(home / "lock"):
            if not done.exists():
                make(folder)
                done.touch()
        return folder

    return give


@pytest.fixture(scope="session")
def small(made_once: MadeOnce) -> tuple[Config, RunFolder]:
    """A finished run of `small_config`, to be read or copied."""
    folder = made_once("small", lambda folder: _run(small_config(folder)))
    return small_config(folder), RunFolder(folder)


@pytest.fixture(scope="session")
def fused_run(made_once: MadeOnce) -> tuple[Config, RunFolder]:
    """A run with a fused ranker, evaluated but not reported, to be read or copied."""
    folder = made_once("fused", lambda folder: _run(small_config(folder, **FUSED), until="evaluate"))
    return small_config(folder, **FUSED), RunFolder(folder)


def _run(config: Config, **options: str) -> None:
    importlib.import_module("trsr.pipeline").run(config, say=lambda line: None, **options)


@pytest.fixture(scope="session")
def tiny_model_dir(made_once: MadeOnce) -> Path:
    """A folder with a random Qwen2 model of 2,048 positions, and a byte-level BPE with a chat template."""
    return made_once("tiny-chat", importlib.import_module("tiny_chat").save_tiny_model)


@pytest.fixture(scope="session")
def served_model(tiny_model_dir: Path, shared: Path) -> Iterator[EndpointWriter]:
    """How to reach the tiny model behind `transformers serve`, a real OpenAI-compatible server.

    The first of all workers that wants it starts it, the last that had it ends it.
    """
    home = shared / "server"
    home.mkdir(exist_ok=True)
    users, told = home / "users", home / "told.json"
    with FileLock(home / "lock"):
        left = int(users.read_text()) if users.exists() else 0
        if not left:
            told.write_text(json.dumps(_serve(tiny_model_dir, home)))
        users.write_text(str(left + 1))
    pid, port = json.loads(told.read_text())
    yield EndpointWriter(
        kind="endpoint", base_url=f"http://127.0.0.1:{port}/v1", model=str(tiny_model_dir), concurrency=2
    )
    with FileLock(home / "lock"):
        left = int(users.read_text()) - 1
        users.write_text(str(left))
        if not left:
            os.kill(pid, signal.SIGTERM)


@pytest.fixture(scope="session", autouse=True)
def unsynced() -> Iterator[None]:
    """Let nobody wait for the disk: killed programs lose nothing by it, and no test cuts the power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@pytest.fixture(scope="module", autouse=True)
def drawing() -> Iterator[None]:
    """Leave the figures of pages empty, since drawing takes longest; `tests/report` and shared runs draw."""
    with pytest.MonkeyPatch.context() as patch:
        _draw_nothing(patch)
        yield


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the figures of pages empty where they are drawn otherwise."""
    _draw_nothing(monkeypatch)


def _draw_nothing(patch: pytest.MonkeyPatch) -> None:
    empty = '<svg viewBox="0 0 1 1"></svg>'
    patch.setattr("matplotlib.figure.Figure.savefig", lambda figure, stream, **_: stream.write(empty))


def _serve(model: Path, home: Path) -> tuple[int, int]:
    """Start the server and wait until it answers; give its process and port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        str(Path(sys.executable).with_name("transformers")),
        *("serve", str(model), "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)),
    ]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "OMP_NUM_THREADS": "1"}
    log = home / "server.log"
    into_log = [
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    server = os.posix_spawn(command[0], command, environment, file_actions=into_log)
    _wait_until_healthy(f"http://127.0.0.1:{port}/health", server, log)
    return server, port


def _wait_until_healthy(url: str, server: int, log: Path) -> None:
    deadline = time.monotonic() + _SERVER_START_S
    while time.monotonic() < deadline:
        if os.waitpid(server, os.WNOHANG) != (0, 0):
            break
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    else:
        os.kill(server, signal.SIGKILL)
    pytest.fail(f"transformers serve did not come up:\n{log.read_text()[-3000:]}")
