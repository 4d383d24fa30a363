"""What a comparison says: how far it is while it works, and its table at the end."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import NamedTuple

from trsr.progress import clock, text_table
from trsr.report.results import MetricTable, Results, SystemRow
from trsr.report.words import decimal, p_value, percent, signed
from trsr.stages.work import SKIPPED


class Work(StrEnum):
    """What a job does; jobs of one sort, other than baselines, take about the same time."""

    BASELINE = "baseline"
    LANGUAGE_MODEL = "language model"
    UNTRAINED = "model as it stands"
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


def render_text(results: Results) -> str:
    """Write all tables, each by falling primary measure, with 95% intervals of that measure."""
    parts = []
    for table in results.all_tables:
        lines = [_row(results, table, row) for row in table.ranked(results.measure)]
        last = len(lines[0]) - 1 if lines else 0
        text = text_table([_head(results, table), *lines], left=(0, last))
        parts.append("\n".join([_title(results, table), *text]))
    if pairs := _pairs(results):
        parts.append("\n".join(pairs))
    notes = dict.fromkeys(table.note for table in results.tables if table.note)
    if notes:
        parts.append("\n".join(["Notes", *(f"  {note}" for note in notes)]))
    choices = [f"  {one.what}: {one.chosen} (by {one.measure})" for one in results.provenance.choices]
    if choices:
        parts.append("\n".join(["Chosen on validation users", *choices]))
    return "\n" + "\n\n".join(parts)


def _pairs(results: Results) -> list[str]:
    """Write the differences that somebody asked for, each with what it was measured among."""
    rows = [
        (
            test.first,
            test.second,
            table.name,
            test.metric,
            signed(test.difference.mean),
            f"{signed(test.difference.low)} to {signed(test.difference.high)}",
            f"{test.wins:,} / {test.losses:,} / {test.ties:,}",
            p_value(test.p_holm),
        )
        for table in results.all_tables
        for test in table.pairs
    ]
    head = ("system", "minus", "among", "metric", "difference", "95%", "wins / losses / ties", "p (Holm)")
    return ["Differences that were asked for", *text_table([head, *rows], left=(0, 1, 2, 3))] if rows else []


def _title(results: Results, table: MetricTable) -> str:
    users = results.provenance.users.get("test", 0)
    what = f"{table.candidates - 1} {table.name} negatives"
    if table.name.endswith("impressions"):
        what = "impressions"
    elif table.name.endswith("catalogue"):
        what = f"{table.name.removesuffix('catalogue')}whole catalogue, {table.candidates:,} items"
    elif results.two_stage is not None and table.name == results.two_stage.name:
        two = results.two_stage
        what = (
            f"two stages: {two.retrieved} items of {two.retriever}, ordered by each system; the target is "
            f"among them for {two.ceiling.mean:.1%}"
        )
    rows = "rows" if results.rows else "users"
    return f"{users:,} test {rows}, {what}"


def _columns(results: Results, table: MetricTable) -> list[str]:
    wanted = [table.metrics[0], "Recall@10", results.measure, "AUC"]
    return [metric for metric in dict.fromkeys(wanted) if metric in table.metrics]


def _head(results: Results, table: MetricTable) -> list[str]:
    exact = [f"{results.measure} expected"] if table.exact_metrics else []
    return [
        *("system", *_columns(results, table), f"95% of {results.measure}", "sd seeds", "p vs best", *exact),
        *("ties", "examples", "seconds", "training negatives"),
    ]


def _row(results: Results, table: MetricTable, row: SystemRow) -> list[str]:
    system, measure = results.system(row.system), results.measure
    main = row.metrics[measure]
    exact = [decimal(row.exact.get(measure))] if table.exact_metrics else []
    cells = [
        *(decimal(row.mean(metric)) for metric in _columns(results, table)),
        f"{main.low:.3f} to {main.high:.3f}",
        decimal(row.spread(measure)),
        "best" if measure not in row.p_against_best else p_value(row.p_against_best[measure]),
        *exact,
        percent(row.tie_rate),
        _NONE if system.training_examples is None else f"{system.training_examples:,}",
        _NONE if system.seconds is None else clock(system.seconds),
        system.training_negatives or _NONE,
    ]
    return [system.name, *cells]
