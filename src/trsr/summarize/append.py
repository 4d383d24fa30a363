"""New events of users whose summaries are there: only blocks that changed are read, never the whole history.

A history is cut into blocks from its oldest item on, so new events change no block
but the last one, and add others after it. The last block is read again only when
it was not full; then it is written anew from the summary before it. Hence

============  ============================================================
paradigm      calls for new events that touch or add m blocks
============  ============================================================
recurrent     m: one describe or update each
hierarchical  m describes, then the combining calls above them; those above
              unchanged blocks were made before, and the store answers them
============  ============================================================

and with a writer that answers the same prompt the same way, the summary is that of
the whole history written at once. Histories only grow here: `history.max`, which
keeps the newest items when a run is prepared, isn't applied again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from trsr.errors import DataError
from trsr.records import Block, Summary, UserSummary
from trsr.summarize.paradigms import Fold, Paradigm
from trsr.summarize.runner import summarize
from trsr.summarize.writer import Combine, Request, Writer


@dataclass(frozen=True, slots=True)
class Growth:
    """A user's summary, what it was written from, and what there is now.

    Parameters
    ----------
    summary
        Of the blocks before; a failed one, or one without steps, is written from the beginning.
    before, after
        Oldest first; `after` begins with the blocks before, the last one perhaps longer.
    """

    summary: UserSummary
    before: tuple[Block, ...]
    after: tuple[Block, ...]

    @property
    def kept(self) -> tuple[Summary, ...]:
        """The summaries of the leading blocks that didn't change."""
        same = 0
        while same < min(len(self.before), len(self.after)) and self.before[same] == self.after[same]:
            same += 1
        return self.summary.steps[:same]


def append(
    growths: Sequence[Growth], paradigm: Paradigm, writer: Writer, *, progress: bool = False
) -> list[UserSummary]:
    """Bring summaries up to date with what was added to the histories.

    `paradigm` is the one that the summaries were written by. Results come in the users' order, with the steps
    of all blocks; their `usage` is that of the new calls alone. A user to whom nothing was added has the
    summary as it was. Raises WriterError when the writer gives up, and DataError when a summary doesn't have
    one step for each block it was written from.
    """
    grown = [growth for growth in growths if growth.before != growth.after or growth.summary.failed]
    for growth in grown:
        if len(growth.summary.steps) != len(growth.before) and not growth.summary.failed:
            message = (
                f"the summary of user {growth.summary.user_id!r} has {len(growth.summary.steps)} steps for "
                f"{len(growth.before)} blocks; it was written by another paradigm or block size: run "
                "`trsr summarize` again"
            )
            raise DataError(message)
    kept = {id(growth.after): growth.kept for growth in grown}
    written = summarize(
        [(growth.summary.user_id, growth.after) for growth in grown],
        lambda blocks: _resume(paradigm(blocks), kept[id(blocks)]),
        writer,
        progress=progress,
    )
    results = {id(growth): _join(growth, new) for growth, new in zip(grown, written, strict=True)}
    return [results.get(id(growth), growth.summary) for growth in growths]


def _resume(fold: Fold, kept: Sequence[Summary]) -> Fold:
    """Run a paradigm; what it asks about the leading blocks is answered by the summaries that are kept."""
    try:
        requests = next(fold)
        while True:
            known = {place: kept[_index(r)] for place, r in enumerate(requests) if -1 < _index(r) < len(kept)}
            asked = [request for place, request in enumerate(requests) if place not in known]
            new: Iterator[Summary] = iter((yield asked) if asked else [])
            answers = [known[place] if place in known else next(new) for place in range(len(requests))]
            requests = fold.send(answers)
    except StopIteration as stop:
        final: Summary = stop.value
        return final


def _index(request: Request) -> int:
    """Return the place of the block that is asked about; -1 for a request that reads none."""
    return -1 if isinstance(request, Combine) else request.block.index


def _join(growth: Growth, new: UserSummary) -> UserSummary:
    return replace(new, steps=(*growth.kept, *new.steps))
