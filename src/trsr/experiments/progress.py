"""What a long comparison says while it works: what is done, how long it took, how much is left."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import NamedTuple

from trsr.progress import clock


class Work(StrEnum):
    """What a job does; jobs of one sort, other than baselines, take about the same time."""

    BASELINE = "baseline"
    LANGUAGE_MODEL = "language model"
    SECOND_STAGE = "order of retrieved items"


class Job(NamedTuple):
    """One system with one seed."""

    work: Work
    system: str
    seed: int

    def __str__(self) -> str:
        """Name the job for people."""
        second = f", {self.work}" if self.work is Work.SECOND_STAGE else ""
        return f"{self.system}, seed {self.seed}{second}"


class Progress:
    """Counts jobs and foretells what is left from those that were done.

    A job is foretold by the mean of the same system's other seeds, else by the mean of jobs of its
    sort; as long as there is neither, the time left is told as a lower bound.

    Parameters
    ----------
    jobs
        All that is to be done, in any order.
    say
        Called with one line a job.
    """

    def __init__(self, jobs: Sequence[Job], say: Callable[[str], None]) -> None:
        self._left = list(jobs)
        self._total = len(jobs)
        self._say = say
        self._seconds: dict[tuple[Work, str], list[float]] = defaultdict(list)

    @contextmanager
    def job(self, job: Job) -> Iterator[None]:
        """Time one job and say what is left after it."""
        number = self._total - len(self._left) + 1
        self._say(f"[{number}/{self._total}] {job} ...")
        started = time.monotonic()
        yield
        seconds = time.monotonic() - started
        self._note(job, seconds)
        self._say(f"[{number}/{self._total}] {job}: {clock(seconds)}; {self._outlook()}")

    def skip(self, job: Job, seconds: float) -> None:
        """Note a job that was complete before, and the time that it once took."""
        self._note(job, seconds)
        self._say(f"[{self._total - len(self._left)}/{self._total}] {job}: complete, skipped")

    def _note(self, job: Job, seconds: float) -> None:
        self._left.remove(job)
        self._seconds[job.work, job.system].append(seconds)

    def _outlook(self) -> str:
        if not self._left:
            return "nothing left"
        foretold = [self._foretell(job) for job in self._left]
        known = sum(seconds for seconds in foretold if seconds is not None)
        if None in foretold:
            return f"more than {clock(known)} left" if known else "time left not known yet"
        return f"about {clock(known)} left"

    def _foretell(self, job: Job) -> float | None:
        own = self._seconds.get((job.work, job.system))
        if own:
            return sum(own) / len(own)
        if job.work is Work.BASELINE:
            # These differ a thousandfold among one another, so that one tells nothing about another.
            return None
        alike = [seconds for (work, _), all_ in self._seconds.items() if work is job.work for seconds in all_]
        return sum(alike) / len(alike) if alike else None
