"""What the store's tests run as processes of their own, and how they are started."""

from __future__ import annotations

import os
import random
import time
from multiprocessing.synchronize import Event

from forks import FORKS, Forked
from trsr.config.summary import Sampling
from trsr.errors import StoreError
from trsr.llm.generator import Chat, Completion
from trsr.summarize.store import Question, Store

ANSWER = Completion("Likes tea — 茶 👍🏽.", 12, 5, "stop")


def question(user: str = "Tea?") -> Question:
    return Question("tiny@1", Sampling(), Chat(user, system="Be brief."), "describe 1-abc")


def ask(number: int) -> Question:
    return Question("m", Sampling(), Chat(f"question {number}"), "describe 1")


def start_payers(count: int, *arguments: object) -> list[Forked]:
    """Start processes that `pay`, and let them begin when each of them has made its first claims."""
    gate = FORKS.Event()
    payers = [Forked(pay, *arguments, gate) for _ in range(count)]
    for payer in payers:
        assert payer.stdout.readline() == "ready\n"
    gate.set()
    return payers


def paid_by(payer: Forked) -> list[int]:
    """Wait for the end; give the numbers that it said, which may stand among warnings."""
    return [int(line) for line in payer.end()[1].splitlines() if line.isdigit()]


def open_and_close(url: str) -> None:
    Store(url).close()


def write(url: str, first: int, last: int) -> None:
    """Write answers `first` to `last`, and say each number once it is committed."""
    with Store(url) as store:
        for number in range(first, last):
            store.put(ask(number), Completion(f"{number}", 1, 1, "stop"))
            print(number, flush=True)


def pay(url: str, count: int, seconds: float, lease_s: float, gate: Event) -> None:
    """Get `count` questions answered as a run does: claim, pay what is ours, wait for the rest.

    After its first claims it waits for the gate. Each number that is paid for is said
    before the answer is stored.
    """
    questions = {ask(number).key: number for number in range(count)}
    draw = random.Random(os.getpid()).sample  # others begin elsewhere
    with Store(url, lease_s=lease_s) as store:
        missing = set(questions)
        ours = store.claim(draw(sorted(missing), 5))
        print("ready", flush=True)
        gate.wait()
        while missing:
            for key in sorted(ours):
                print(questions[key], flush=True)
                time.sleep(seconds)
                store.put(ask(questions[key]), Completion(f"{questions[key]}", 1, 1, "stop"))
            missing -= store.get_many(missing).keys()
            ours = store.claim(draw(sorted(missing), min(5, len(missing))))
            if missing and not ours:
                time.sleep(store.poll_s)


def hold(url: str, count: int, lease_s: float) -> None:
    """Claim `count` questions and never answer them."""
    store = Store(url, lease_s=lease_s)
    print(len(store.claim([ask(number).key for number in range(count)])), flush=True)
    time.sleep(600)


def read_and_claim_as_nobody(url: str) -> None:
    """Become somebody else, once all is loaded: that user may not be able to read the project's files."""
    with Store("sqlite://") as warm:
        warm.claim([ask(0).key])
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    store = Store(url)
    print(len(store.get_many([ask(0).key])))
    try:
        store.claim([ask(1).key])
    except StoreError as error:
        print(error)
