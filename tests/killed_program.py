"""The command line, in a process that is killed at a call that a test names: no clock decides when.

`os.fsync` is called within every write of an artifact, between the half-written file and the whole one.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from typing import Any

from forks import Forked


def killed_at(function: str, number: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line until a dotted function is called for the `number`th time.

    The caller looks whether the return code is -SIGKILL.
    """
    words = [*map(str, arguments)]
    return subprocess.CompletedProcess(words, *Forked(_run, function, number, words).end())


def _run(function: str, number: int, arguments: list[str]) -> None:
    _arm(function, number)
    sys.argv = ["trsr", *arguments]
    importlib.import_module("trsr.cli").main()


def _arm(function: str, number: int) -> None:
    module, *rest = _imported(function)
    owner: Any = module
    for name in rest[:-1]:
        owner = getattr(owner, name)
    real, left = getattr(owner, rest[-1]), [number]

    def counted(*arguments: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **named)

    setattr(owner, rest[-1], counted)


def _imported(path: str) -> list[Any]:
    """Split a dotted path into its module and the names within."""
    names = path.split(".")
    for end in range(len(names) - 1, 0, -1):
        try:
            return [importlib.import_module(".".join(names[:end])), *names[end:]]
        except ModuleNotFoundError:
            continue
    raise ModuleNotFoundError(path)
