"""The command line, in a process that is killed at a call that a test names: no clock decides when.

python tests/killed_program.py FUNCTION NUMBER ARGUMENTS ...

runs `trsr ARGUMENTS ...` and sends itself SIGKILL at the NUMBERth call of FUNCTION, a dotted path. `os.fsync`
is called within every write of an artifact, between the half-written file and the whole one.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any


def killed_at(function: str, number: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line up to a call; the caller looks whether the return code is -SIGKILL."""
    command = [sys.executable, str(Path(__file__)), function, str(number), *map(str, arguments)]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


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


if __name__ == "__main__":
    _, named, count, *sys.argv[1:] = sys.argv
    sys.path.pop(0)  # the tests' folder, which an ordinary run doesn't have
    _arm(named, int(count))
    from trsr.cli import main

    main()
