"""Faults as they happen: a server in a process of its own fails at random, and the calls come through."""

from __future__ import annotations

from typing import Any

import pytest

from asking import outcomes
from faulty_server import FAULTS, Running, faulty_server
from trsr.config.summary import EndpointWriter, Sampling
from trsr.llm.endpoint import EndpointGenerator
from trsr.llm.generator import Chat, Completion


def connect(server: Running, **settings: Any) -> EndpointGenerator:
    defaults = {"concurrency": 8, "timeout_s": 1.0, "max_retries": 12}
    return EndpointGenerator(
        EndpointWriter(kind="endpoint", base_url=server.base_url, model="m", **defaults | settings)
    )


def chats(count: int) -> list[Chat]:
    return [Chat(f"Describe shopper {number}.") for number in range(count)]


def count(stats: dict[str, Any], generator: EndpointGenerator) -> tuple[int, int]:
    """The tries that the server failed, and those that a busy machine made too late for the client."""
    failed = sum(stats["failed"].values())
    assert generator.pace.failed_tries >= failed
    return failed, generator.pace.failed_tries - failed


@pytest.mark.parametrize("seed", [1, 2])
def test_all_calls_come_through_faults_at_30_percent(seed: int) -> None:
    with faulty_server(seed=seed, faults=0.3) as server:
        generator = connect(server)
        answers = outcomes(generator, chats(150), Sampling())
        stats = server.stats()
    assert all(isinstance(answer, Completion) for answer in answers)
    assert len(answers) == 150
    assert set(stats["failed"]) <= set(FAULTS)
    assert sum(stats["failed"].values()) > 30
    # Needed and failed, no more: nothing was asked for twice but what had failed, or came too late.
    failed, late = count(stats, generator)
    assert generator.pace.tries == 150 + failed + late
    assert 150 + failed <= stats["requests"] <= 150 + failed + late
    assert stats["answered_twice"] <= late


@pytest.mark.parametrize("kind", FAULTS)
def test_every_kind_of_fault_is_survived_alone(kind: str) -> None:
    with faulty_server(seed=3, faults=0.5, kinds=(kind,)) as server:
        generator = connect(server, timeout_s=0.4 if kind == "stall" else 60)
        answers = outcomes(generator, chats(12), Sampling())
        stats = server.stats()
    assert all(isinstance(answer, Completion) for answer in answers)
    assert stats["failed"][kind] > 0
    failed, late = count(stats, generator)
    assert late == 0 or kind == "stall"
    assert 12 + failed <= stats["requests"] <= 12 + failed + late
