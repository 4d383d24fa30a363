"""Running a paradigm for many users at once, so that every wave of calls is one batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from tqdm import tqdm

from trsr.config.summary import Summarization
from trsr.records import Block, Summary, Usage, UserSummary
from trsr.summarize.paradigms import Fold, Paradigm, hierarchical, none, recurrent
from trsr.summarize.writer import Combine, Describe, Request, Update, Writer


def make_paradigm(config: Summarization) -> Paradigm:
    """Choose the paradigm that the configuration names, with its settings.

    Examples
    --------
    >>> make_paradigm(Summarization(paradigm="none")) is none
    True
    """
    if config.paradigm == "recurrent":
        return recurrent
    if config.paradigm == "hierarchical":
        return partial(hierarchical, fan_in=config.fan_in)
    return none


def summarize(
    users: Iterable[tuple[str, Sequence[Block]]],
    paradigm: Paradigm,
    writer: Writer,
    *,
    progress: bool = True,
) -> list[UserSummary]:
    """Summarise every user; all requests that wait for the same verb make one batch.

    Parameters
    ----------
    users
        User ids with their blocks, oldest block first.
    paradigm
        How blocks become one summary.
    writer
        Who writes the summaries.
    progress
        Show a bar of the blocks read, when on a terminal.

    Returns
    -------
    list of UserSummary
        In the users' order.

    Raises
    ------
    WriterError
        When the writer gives up. A writer that pays for its answers has stored
        those it got, so the same call goes on where this one stopped.
    """
    listed = [(user_id, tuple(blocks)) for user_id, blocks in users]
    runs = [_Run(user_id, paradigm(blocks)) for user_id, blocks in listed]
    total = sum(len(blocks) for _, blocks in listed)
    with tqdm(total=total, desc="summaries", unit="block", disable=None if progress else True) as bar:
        while any(run.pending for run in runs):
            bar.update(_wave(runs, writer))
    return [run.result() for run in runs]


class _Run:
    """One user's fold, the requests it waits for, and what was written so far."""

    def __init__(self, user_id: str, fold: Fold) -> None:
        self._user_id = user_id
        self._fold = fold
        self._steps: list[Summary] = []
        self._usage = Usage()
        self._final = Summary("")
        self.pending: list[Request] = []
        self._advance(None)

    def receive(self, answers: list[Summary]) -> int:
        """Hand the fold its answers; return how many blocks they read."""
        read = [
            summary
            for request, summary in zip(self.pending, answers, strict=True)
            if not isinstance(request, Combine)
        ]
        self._steps.extend(read)
        self._usage = sum((summary.usage for summary in answers), self._usage)
        self._advance(answers)
        return len(read)

    def result(self) -> UserSummary:
        return UserSummary(self._user_id, self._final, tuple(self._steps), self._usage)

    def _advance(self, answers: list[Summary] | None) -> None:
        try:
            self.pending = next(self._fold) if answers is None else self._fold.send(answers)
        except StopIteration as stop:
            self.pending = []
            self._final = stop.value


def _wave(runs: Sequence[_Run], writer: Writer) -> int:
    """Answer all that is pending, one batch a verb; return how many blocks were read."""
    waiting = [run for run in runs if run.pending]
    requests = [request for run in waiting for request in run.pending]
    answers = iter(_answer(requests, writer))
    return sum(run.receive([next(answers) for _ in run.pending]) for run in waiting)


def _answer(requests: Sequence[Request], writer: Writer) -> list[Summary]:
    """Sort requests by verb, ask the writer, and put the answers back into the requests' order."""
    describes = [(place, request) for place, request in enumerate(requests) if isinstance(request, Describe)]
    updates = [(place, request) for place, request in enumerate(requests) if isinstance(request, Update)]
    combines = [(place, request) for place, request in enumerate(requests) if isinstance(request, Combine)]
    answers: dict[int, Summary] = {}
    if describes:
        written = writer.describe([request for _, request in describes])
        answers |= {place: summary for (place, _), summary in zip(describes, written, strict=True)}
    if updates:
        written = writer.update([request for _, request in updates])
        answers |= {place: summary for (place, _), summary in zip(updates, written, strict=True)}
    if combines:
        written = writer.combine([request for _, request in combines])
        answers |= {place: summary for (place, _), summary in zip(combines, written, strict=True)}
    return [answers[place] for place in range(len(requests))]
