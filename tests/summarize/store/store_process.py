"""What the store's tests run as processes of their own."""

from __future__ import annotations

import sys
import time

from trsr.config.summary import Sampling
from trsr.models.generation import Chat, Completion
from trsr.summarize.store import Question, Store


def ask(number: int) -> Question:
    return Question("m", Sampling(), Chat(f"question {number}"), "describe 1")


def write(url: str, first: int, last: int) -> None:
    """Write answers `first` to `last`, and say each number once it is committed."""
    with Store(url) as store:
        for number in range(first, last):
            store.put(ask(number), Completion(f"{number}", 1, 1, "stop"))
            print(number, flush=True)


def pay(url: str, count: int, seconds: float, lease_s: float) -> None:
    """Get `count` questions answered as a run does: claim, pay what is ours, wait for the rest.

    Each number that is paid for is said before the answer is stored.
    """
    questions = {ask(number).key: number for number in range(count)}
    with Store(url, lease_s=lease_s) as store:
        missing = set(questions)
        while missing:
            missing -= store.get_many(missing).keys()
            ours = store.claim(sorted(missing)[:5])
            for key in sorted(ours):
                print(questions[key], flush=True)
                time.sleep(seconds)
                store.put(ask(questions[key]), Completion(f"{questions[key]}", 1, 1, "stop"))
            if missing and not ours:
                time.sleep(store.poll_s)


def hold(url: str, count: int, lease_s: float) -> None:
    """Claim `count` questions and never answer them."""
    store = Store(url, lease_s=lease_s)
    print(len(store.claim([ask(number).key for number in range(count)])), flush=True)
    time.sleep(600)


if __name__ == "__main__":
    verb, address, *numbers = sys.argv[1:]
    if verb == "write":
        write(address, int(numbers[0]), int(numbers[1]))
    elif verb == "pay":
        pay(address, int(numbers[0]), float(numbers[1]), float(numbers[2]))
    else:
        hold(address, int(numbers[0]), float(numbers[1]))
