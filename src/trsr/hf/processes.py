"""Several processes that train together, as ``torchrun`` and ``accelerate launch`` start them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

_SIZE: Final = "WORLD_SIZE"
_RANK: Final = "RANK"
_LAUNCHERS: Final = ("RANK", "WORLD_", "LOCAL_", "GROUP_", "ROLE_", "MASTER_", "TORCHELASTIC_", "ACCELERATE_")
_LONGEST_WAIT: Final = timedelta(days=30)
"""One process may write summaries for days while the others wait."""


def count() -> int:
    """Return how many processes train together; 1 for an ordinary program."""
    return int(os.environ.get(_SIZE, "1"))


def is_main() -> bool:
    """Say whether this is the one process that writes, or the only one."""
    return int(os.environ.get(_RANK, "0")) == 0


def wait() -> None:
    """Wait until every process is here."""
    import torch  # noqa: PLC0415  an ordinary program needs none of this
    from accelerate import PartialState  # noqa: PLC0415

    PartialState(cpu=not torch.cuda.is_available(), timeout=_LONGEST_WAIT).wait_for_everyone()


def alone(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a program that trains by itself.

    Examples
    --------
    >>> alone({"PATH": "/bin", "RANK": "1", "WORLD_SIZE": "2", "MASTER_PORT": "1"})
    {'PATH': '/bin'}
    """
    return {name: value for name, value in environment.items() if not name.startswith(_LAUNCHERS)}
