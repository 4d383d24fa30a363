"""Machines beyond this one."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trsr.config.section import Section


class Cluster(Section):
    """Where summaries are written and candidates scored."""

    kind: Literal["none", "ray"] = "none"
    """`none`: in this process. `ray`: on a Ray cluster that runs already (needs `trsr[ray]`)."""
    address: str = "auto"
    """Address of the cluster's head, such as `10.0.0.1:6379`; `auto`: the cluster this machine is part of."""
    workers: int = Field(2, ge=1)
    """Actors, each of which keeps its model loaded."""
    cpus: float = Field(1.0, ge=0)
    """Processor cores that an actor takes."""
    gpus: float = Field(0.0, ge=0)
    """GPUs that an actor takes; parts are allowed."""
    users: int = Field(64, ge=1)
    """Users a task; what a lost machine had under way is at most this many users an actor."""
