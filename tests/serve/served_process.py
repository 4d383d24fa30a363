"""The service as a process of its own: the command line's, on a free port of this machine."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from forks import Forked


class ServedProcess:
    """``trsr serve`` of a run folder; `ask` gives the status and what was answered."""

    def __init__(self, path: Path, *options: str) -> None:
        self._process = Forked(_serve, str(path), *options)
        self.told = self._process.stdout.readline()
        self.url = self.told.split()[0]

    def ask(self, path: str, body: Any = None, method: str | None = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refused:
            return refused.code, json.load(refused)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self._process.pid, number)

    def stop(self) -> tuple[int, str]:
        """Tell it to stop, and wait for the end."""
        self.signal(signal.SIGTERM)
        return self.end()

    def end(self) -> tuple[int, str]:
        """Wait for the end; give the exit code and what was said since the start."""
        return self._process.end()


def _serve(*arguments: str) -> None:
    sys.argv = ["trsr", "serve", *arguments, "--port", "0"]
    importlib.import_module("trsr.cli").main()
