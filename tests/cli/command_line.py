"""The command line in this process: starting another one takes longer than all the work."""

from __future__ import annotations

import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import NamedTuple
from unittest import mock

from trsr.cli import main


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def trsr(*arguments: object) -> Done:
    """Run a command; return its exit code and what it printed."""
    out, err, code = StringIO(), StringIO(), 0
    command = mock.patch.object(sys, "argv", ["trsr", *map(str, arguments)])
    with redirect_stdout(out), redirect_stderr(err), command:
        try:
            main()
        except SystemExit as leaving:
            code = int(leaving.code or 0)
    return Done(code, out.getvalue(), err.getvalue())
