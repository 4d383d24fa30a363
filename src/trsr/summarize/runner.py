"""Running a paradigm for many users at once: each goes on as soon as its own answer is there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from trsr.config.summary import Summarization
from trsr.progress import Progress
from trsr.records import Block, Summary, Usage, UserSummary
from trsr.registry import find_part
from trsr.summarize.paradigms import Fold, Paradigm, hierarchical, none, recurrent
from trsr.summarize.writer import Combine, Request, Unwritten, Writer

_UNDER_WAY: Final = 4096
"""Users whose prompts are in memory at once; more than any server answers side by side."""


def make_paradigm(config: Summarization) -> Paradigm:
    """Choose the paradigm that the configuration names, with its settings.

    Examples
    --------
    >>> make_paradigm(Summarization(paradigm="none")) is none
    True
    """
    match config.paradigm:
        case "recurrent":
            return recurrent
        case "hierarchical":
            return partial(hierarchical, fan_in=config.fan_in)
        case "none":
            return none
        case _:
            own: Paradigm = partial(find_part("paradigm", config.paradigm, {}), settings=config)
            return own


def summarize(
    users: Iterable[tuple[str, Sequence[Block]]],
    paradigm: Paradigm,
    writer: Writer,
    *,
    progress: bool = True,
) -> list[UserSummary]:
    """Summarise every user; none waits for another one.

    A user's blocks come oldest first. Summaries are in the users' order; one that could not be written is
    empty and says why in `failed`. `progress` shows the blocks read, with their rate, the time left and the
    users that failed.

    Raises WriterError when the writer gives up. A writer that pays for its answers has stored those it got,
    so the same call goes on where this one stopped.
    """
    listed = [(user_id, tuple(blocks)) for user_id, blocks in users]
    runs = [_Run(user_id, blocks, paradigm) for user_id, blocks in listed]
    total = sum(len(blocks) for _, blocks in listed)
    with Progress("summaries", total, "blocks", shown=progress) as bar:
        _drive(runs, writer, bar)
    return [run.result() for run in runs]


def _drive(runs: Sequence[_Run], writer: Writer, bar: Progress) -> None:
    """Start users while there is room; hand every answer to its user, and ask for what they need next."""
    requests: list[Request] = []
    waiting: dict[int, tuple[_Run, int]] = {}
    to_start = iter(runs)
    under_way = failed = 0

    def ask(run: _Run) -> None:
        for number, request in enumerate(run.pending):
            waiting[len(requests)] = run, number
            requests.append(replace(request, user=run.user_id))

    def start() -> int:
        for run in to_start:
            run.start()
            ask(run)
            if run.pending:
                return 1
        return 0

    while under_way < _UNDER_WAY and start():
        under_way += 1
    for place, answer in writer.write(requests):
        run, number = waiting.pop(place)
        asked = run.pending
        bar.advance(run.receive(number, answer))
        if run.pending is asked:
            continue
        ask(run)
        if run.failed:
            failed += 1
            bar.note(failed=failed)
        if not run.pending:
            start()


class _Run:
    """One user's fold, the requests it waits for, and what was written so far."""

    def __init__(self, user_id: str, blocks: tuple[Block, ...], paradigm: Paradigm) -> None:
        self.user_id = user_id
        self.pending: list[Request] = []
        self.failed = ""
        self._unread = len(blocks)
        self._fold: Fold = paradigm(blocks)
        self._answers: dict[int, Summary] = {}
        self._steps: list[Summary] = []
        self._usage = Usage()
        self._final = Summary("")

    def start(self) -> None:
        """Ask for the first requests."""
        self._advance(None)

    def receive(self, number: int, answer: Summary | Unwritten) -> int:
        """Take one answer; go on when all are there. Return how many blocks are done with.

        A user's other calls may be under way when one fails: they are paid for too.
        """
        self._usage += answer.usage
        if self.failed:
            return 0
        if isinstance(answer, Unwritten):
            self.failed = answer.reason
            self.pending = []
            done, self._unread = self._unread, 0
            return done
        self._answers[number] = answer
        done = 0 if isinstance(self.pending[number], Combine) else 1
        self._unread -= done
        if len(self._answers) == len(self.pending):
            answers = [self._answers[place] for place in range(len(self.pending))]
            for request, summary in zip(self.pending, answers, strict=True):
                if not isinstance(request, Combine):
                    self._steps.append(summary)
            self._advance(answers)
        return done

    def result(self) -> UserSummary:
        return UserSummary(self.user_id, self._final, tuple(self._steps), self._usage, self.failed)

    def _advance(self, answers: list[Summary] | None) -> None:
        self._answers = {}
        try:
            self.pending = next(self._fold) if answers is None else self._fold.send(answers)
        except StopIteration as stop:
            self.pending = []
            self._final = stop.value
