"""Processes of their own that needn't load the libraries again: forks of one process that has loaded them."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.connection import Connection

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["trsr.cli", "trsr.pipeline", "trsr.experiments.compare"])


class Forked:
    """Calls `target`, a function of a plain module, in a process that may be killed.

    Attributes
    ----------
    stdout
        What the process says, on both of its streams, as it comes.
    """

    def __init__(self, target: Callable[..., object], *arguments: object) -> None:
        reader, writer = FORKS.Pipe(duplex=False)
        self._process = FORKS.Process(target=_call, args=(writer, target, arguments), daemon=True)
        self._process.start()
        writer.close()
        self.stdout = os.fdopen(os.dup(reader.fileno()), encoding="utf-8")
        reader.close()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Give the exit code, as `subprocess.Popen` does; None while the process runs."""
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> tuple[int, str]:
        """Wait for the end; give the exit code and what is said until then."""
        with self.stdout:
            said = self.stdout.read()
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode, said


def _call(writer: Connection, target: Callable[..., object], arguments: tuple[object, ...]) -> None:
    for stream in (1, 2):
        os.dup2(writer.fileno(), stream)
    writer.close()
    gc.freeze()  # the libraries, which every search for garbage would copy
    target(*arguments)
