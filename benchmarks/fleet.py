"""How long a fleet of language-model servers takes for a population's summaries: a simulation of the queue.

Every user is a chain of calls (recurrent) or a handful side by side and one after
them (hierarchical). A server has a number of slots; a call takes one for as long as
its prompt is read and its answer written. Nothing is measured here but time that
passes inside the simulation: put in what your servers do (`trsr plan --measure`
says), and see how many of them you need, whether chains leave slots idle, and what
waves would cost in place of users who advance by themselves.

    python benchmarks/fleet.py --users 1000000 --servers 8
"""

from __future__ import annotations

import argparse
import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Fleet:
    """Servers, and how fast one slot of a full one works."""

    servers: int
    slots: int
    prompt_tokens_per_s: float
    answer_tokens_per_s: float

    @property
    def places(self) -> int:
        return self.servers * self.slots


@dataclass(frozen=True)
class Load:
    """Calls of every user and how long each takes, in seconds of one slot."""

    seconds: list[NDArray[np.float64]]
    """Per user, in the order of the calls; hierarchical: the last one joins the others."""
    prompt_tokens: int
    answer_tokens: int

    @property
    def calls(self) -> int:
        return sum(map(len, self.seconds))


@dataclass(frozen=True)
class Outcome:
    """What a simulated fleet did."""

    seconds: float
    busy: float
    """Share of the slots' time in which they worked."""


def draw_load(users: int, paradigm: str, fleet: Fleet, settings: argparse.Namespace) -> Load:
    """Draw each user's calls: blocks by the spread of history lengths, answers log-normal and capped."""
    rng = np.random.default_rng(settings.seed)
    histories = rng.integers(settings.shortest, settings.longest + 1, size=users)
    blocks = -(-histories // settings.block)
    joins = (paradigm == "hierarchical") & (blocks > 1)
    calls = blocks + joins
    total = int(calls.sum())
    answers = np.minimum(rng.lognormal(np.log(settings.answer), 0.35, total), settings.cap).round()
    prompts = settings.instruction + settings.block * settings.item + rng.normal(0, settings.item, total)
    if paradigm == "recurrent":
        prompts += settings.answer
    seconds = prompts / fleet.prompt_tokens_per_s + answers / fleet.answer_tokens_per_s
    ends = np.cumsum(calls)[:-1]
    return Load(np.split(seconds, ends), int(prompts.sum()), int(answers.sum()))


def advance_alone(load: Load, fleet: Fleet, paradigm: str) -> Outcome:
    """Let each user go on as soon as the answer is there."""
    hierarchical = paradigm == "hierarchical"
    ready = _waiting_for_nothing(load, hierarchical)
    missing = [len(user) - 1 for user in load.seconds]
    begun: list[tuple[int, int]] = []
    under_way: list[tuple[float, int, int]] = []
    clock = work = 0.0
    while ready or begun or under_way:
        while len(under_way) < fleet.places and (begun or ready):
            # Chains that have begun go first, so that the last of them doesn't begin at the very end.
            user, call = begun.pop() if begun else ready.pop()
            seconds = float(load.seconds[user][call])
            work += seconds
            heapq.heappush(under_way, (clock + seconds, user, call))
        clock, user, call = heapq.heappop(under_way)
        last = len(load.seconds[user]) - 1
        missing[user] -= 1
        if call < last and (not hierarchical or missing[user] == 0):
            begun.append((user, last if hierarchical else call + 1))
    return Outcome(clock, work / (clock * fleet.places))


def advance_in_waves(load: Load, fleet: Fleet, paradigm: str) -> Outcome:
    """Let all users wait for the slowest of their wave before any goes on."""
    clock = 0.0
    for wave in _waves(load, paradigm):
        clock += _makespan(wave, fleet.places)
    work = float(sum(user.sum() for user in load.seconds))
    return Outcome(clock, work / (clock * fleet.places))


def _waves(load: Load, paradigm: str) -> Iterator[list[float]]:
    if paradigm == "hierarchical":
        yield [float(call) for user in load.seconds for call in (user[:-1] if len(user) > 1 else user)]
        yield [float(user[-1]) for user in load.seconds if len(user) > 1]
        return
    for place in range(max(map(len, load.seconds))):
        yield [float(user[place]) for user in load.seconds if len(user) > place]


def _makespan(calls: Sequence[float], places: int) -> float:
    free = [0.0] * min(places, max(1, len(calls)))
    for seconds in calls:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


def _waiting_for_nothing(load: Load, hierarchical: bool) -> list[tuple[int, int]]:
    """List the first calls as (user, call), last users first, since calls are taken from the end."""
    firsts = [
        (user, call)
        for user, calls in enumerate(load.seconds)
        for call in range(max(1, len(calls) - 1) if hierarchical else 1)
    ]
    return firsts[::-1]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--users", type=int, default=100_000)
    add(
        "--sample",
        type=int,
        default=100_000,
        help="users simulated; more are scaled up, which holds when every slot stays busy",
    )
    add("--servers", type=int, default=8)
    add("--slots", type=int, default=64, help="calls a server works on at once")
    add(
        "--prompt-rate",
        type=float,
        default=400.0,
        help="prompt tokens a second of one slot when all are busy",
    )
    add(
        "--answer-rate", type=float, default=40.0, help="answer tokens a second of one slot when all are busy"
    )
    add("--shortest", type=int, default=10, help="items of the shortest history")
    add("--longest", type=int, default=25, help="items of the longest history")
    add("--block", type=int, default=5, help="items a block")
    add("--item", type=float, default=64.0, help="tokens an item")
    add("--instruction", type=float, default=200.0, help="tokens of the instruction")
    add("--answer", type=float, default=90.0, help="tokens of a usual answer")
    add("--cap", type=float, default=150.0, help="summary.sampling.max_new_tokens")
    add("--seed", type=int, default=0)
    settings = parser.parse_args(arguments)
    fleet = Fleet(settings.servers, settings.slots, settings.prompt_rate, settings.answer_rate)
    sample = min(settings.users, settings.sample)
    scale = settings.users / sample
    print(
        f"{settings.users:,} users, {fleet.servers} servers of {fleet.slots} slots; "
        f"{sample:,} users simulated"
    )
    widths = {
        "paradigm": -14, "calls": 14, "prompt tokens": 18, "answer tokens": 18, "server hours": 14, "days": 8,
        "busy": 7, "waves": 8,
    }  # fmt: skip
    print("".join(name.ljust(-width) if width < 0 else name.rjust(width) for name, width in widths.items()))
    for paradigm in ("recurrent", "hierarchical"):
        load = draw_load(sample, paradigm, fleet, settings)
        alone = advance_alone(load, fleet, paradigm)
        waves = advance_in_waves(load, fleet, paradigm)
        hours = alone.seconds * scale * fleet.servers / 3600
        print(
            f"{paradigm:<14}{load.calls * scale:>14,.0f}{load.prompt_tokens * scale:>18,.0f}"
            f"{load.answer_tokens * scale:>18,.0f}{hours:>14,.1f}{alone.seconds * scale / 86400:>8.2f}"
            f"{alone.busy:>7.0%}{waves.seconds / alone.seconds:>7.2f}x"
        )
    print(
        "waves: time when all users wait for the slowest of their wave, over users who advance by themselves"
    )


if __name__ == "__main__":
    main()
