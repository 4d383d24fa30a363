"""What a comparison says: how far it is while it works, and its table at the end."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import NamedTuple

from trsr.experiments.publish import blocks
from trsr.progress import clock
from trsr.report.comparison.results import ComparisonContent, Standing, System
from trsr.stages.work import SKIPPED


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


class Running:
    """A job under way; `seconds` is the time that it once took, where it was complete before."""

    def __init__(self, title: str, say: Callable[[str], None]) -> None:
        self.seconds = 0.0
        self.began_at: float | None = None
        self._title = title
        self._say = say

    def begin(self) -> None:
        """Say that there is something to do, once."""
        if self.began_at is None:
            self.began_at = time.monotonic()
            self._say(f"{self._title} ...")

    def tell(self, line: str) -> None:
        """Say a line of a step; steps that were complete before are no work."""
        if not line.endswith(SKIPPED):
            self.begin()
        if self.began_at is not None:
            self._say(line)


class Progress:
    """Counts jobs, done in any order, and foretells what is left from those that were done.

    A job is foretold by the mean of the same system's other seeds, else by the mean of jobs of its
    sort; as long as there is neither, the time left is told as a lower bound.
    """

    def __init__(self, jobs: Sequence[Job], say: Callable[[str], None]) -> None:
        self._left = list(jobs)
        self._total = len(jobs)
        self._say = say
        self._seconds: dict[tuple[Work, str], list[float]] = defaultdict(list)

    @contextmanager
    def job(self, job: Job) -> Iterator[Running]:
        """Time one job and say what is left after it; one that never begins was complete before."""
        number = self._total - len(self._left) + 1
        title = f"[{number}/{self._total}] {job}"
        running = Running(title, self._say)
        yield running
        if running.began_at is None:
            self._note(job, running.seconds)
            self._say(f"{title}: complete, skipped")
            return
        seconds = time.monotonic() - running.began_at
        self._note(job, seconds)
        self._say(f"{title}: {clock(seconds)}; {self._outlook()}")

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


_NONE = "-"


def render_text(content: ComparisonContent) -> str:
    """Write all tables, each by falling primary measure, with 95% intervals of that measure."""
    systems = {system.name: system for system in content.systems}
    parts = []
    for name, standings in blocks(content):
        ranked = sorted(standings, key=lambda row: -row.metrics[content.measure].mean)
        lines = [_row(row, systems[row.system], content, name) for row in ranked]
        parts.append("\n".join([_title(name, content), *_aligned([_head(content, name), *lines])]))
    chosen = "\n".join(
        f"  {choice.what}: {choice.chosen} (by {choice.measure})" for choice in content.provenance.choices
    )
    notes = dict.fromkeys(table.note for table in content.tables if table.note)
    if notes:
        parts.append("\n".join(["Notes", *(f"  {note}" for note in notes)]))
    if chosen:
        parts.append(f"Chosen on validation users\n{chosen}")
    return "\n" + "\n\n".join(parts)


def _title(name: str, content: ComparisonContent) -> str:
    users = content.provenance.users.get("test", 0)
    if name == "catalogue":
        what = f"whole catalogue, {content.items:,} items"
    elif content.two_stage is not None and name == "two-stage":
        two = content.two_stage
        what = (
            f"two stages: {two.retrieved} items of {two.retriever}, ordered by each system; the target is "
            f"among them for {two.ceiling.mean:.1%}"
        )
    else:
        table = next(table for table in content.tables if table.sampler == name)
        what = f"{table.candidates - 1} {name} negatives"
    return f"{users:,} test users, {what}"


def _columns(content: ComparisonContent) -> list[str]:
    measures = list(content.tables[0].standings[0].metrics)
    first, last = measures[0], content.measure
    return [first, *(["Recall@10"] if "Recall@10" in measures else []), last, "AUC"]


def _head(content: ComparisonContent, name: str) -> list[str]:
    wanted = [measure for measure in _columns(content) if not (name == "two-stage" and measure == "AUC")]
    exact = [f"{content.measure} expected"] if name == "uniform" else []
    return [
        *("system", *wanted, f"95% of {content.measure}", "sd seeds", "p vs best", *exact),
        *("ties", "examples", "seconds", "training negatives"),
    ]


def _row(row: Standing, system: System, content: ComparisonContent, name: str) -> list[str]:
    wanted = [measure for measure in _columns(content) if not (name == "two-stage" and measure == "AUC")]
    main = row.metrics[content.measure]
    spread = row.by_seed.get(content.measure, ())
    p = row.p_against_best.get(content.measure)
    exact = row.exact.get(content.measure)
    return [
        system.name,
        *(f"{row.metrics[measure].mean:.3f}" if measure in row.metrics else _NONE for measure in wanted),
        f"{main.low:.3f} to {main.high:.3f}",
        _sd(spread),
        "best" if p is None else ("<.001" if p < 0.001 else f"{p:.3f}"),
        *([_NONE if exact is None else f"{exact:.3f}"] if name == "uniform" else []),
        _NONE if row.tie_rate is None else f"{row.tie_rate:.0%}",
        _NONE if system.training_examples is None else f"{system.training_examples:,}",
        _NONE if system.seconds is None else clock(system.seconds),
        system.training_negatives or _NONE,
    ]


def _sd(means: Sequence[float]) -> str:
    if len(means) < 2:
        return _NONE
    centre = sum(means) / len(means)
    return f"{(sum((mean - centre) ** 2 for mean in means) / (len(means) - 1)) ** 0.5:.3f}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Pad columns: the first and the last to the left, numbers to the right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    last = len(widths) - 1
    return [
        "  ".join(
            cell.ljust(width) if place in (0, last) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
