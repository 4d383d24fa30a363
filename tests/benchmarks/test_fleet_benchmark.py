"""The simulation of the queue keeps the laws that any queue keeps."""

from __future__ import annotations

import argparse

import numpy as np
import pytest
from fleet import Fleet, Load, advance_alone, advance_in_waves, draw_load, main

ONE = Fleet(servers=1, slots=1, prompt_tokens_per_s=100.0, answer_tokens_per_s=10.0)
SETTINGS = argparse.Namespace(
    seed=0, shortest=10, longest=25, block=5, item=20.0, instruction=50.0, answer=40.0, cap=60.0
)


def load(*users: list[float]) -> Load:
    return Load([np.array(calls) for calls in users], 0, 0)


def test_one_slot_does_all_the_work_one_after_the_other() -> None:
    for paradigm in ("recurrent", "hierarchical"):
        for advance in (advance_alone, advance_in_waves):
            done = advance(load([3.0, 2.0], [4.0]), ONE, paradigm)
            assert done.seconds == pytest.approx(9.0)
            assert done.busy == pytest.approx(1.0)


def test_a_chain_is_sequential_however_many_slots_there_are() -> None:
    wide = Fleet(1, 100, 1.0, 1.0)
    assert advance_alone(load([3.0, 2.0, 1.0], [4.0]), wide, "recurrent").seconds == pytest.approx(6.0)


def test_a_hierarchy_waits_for_its_slowest_block_alone() -> None:
    wide = Fleet(1, 100, 1.0, 1.0)
    assert advance_alone(load([3.0, 2.0, 1.0], [4.0]), wide, "hierarchical").seconds == pytest.approx(4.0)


def test_waves_wait_for_the_slowest_user_of_each() -> None:
    wide = Fleet(1, 100, 1.0, 1.0)
    chains = load([9.0, 1.0], [1.0, 9.0])
    assert advance_alone(chains, wide, "recurrent").seconds == pytest.approx(10.0)
    assert advance_in_waves(chains, wide, "recurrent").seconds == pytest.approx(18.0)


def test_calls_are_those_of_the_paradigms() -> None:
    recurrent = draw_load(500, "recurrent", ONE, SETTINGS)
    hierarchical = draw_load(500, "hierarchical", ONE, SETTINGS)
    blocks = {len(calls) for calls in recurrent.seconds}
    assert blocks == {2, 3, 4, 5}
    assert hierarchical.calls == recurrent.calls + 500
    assert recurrent.answer_tokens <= 60 * recurrent.calls


def test_more_servers_need_as_many_hours_in_all(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--users", "4000", "--sample", "2000", "--servers", "1", "--slots", "4"])
    one = capsys.readouterr().out.splitlines()[2].split()
    main(["--users", "4000", "--sample", "2000", "--servers", "4", "--slots", "4"])
    four = capsys.readouterr().out.splitlines()[2].split()
    assert one[:4] == four[:4]
    assert float(four[4]) == pytest.approx(float(one[4]), rel=0.02)
