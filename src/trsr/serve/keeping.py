"""What the service does for its users, without HTTP: takes events, keeps summaries up to date, forgets.

Two threads work for it. The store's writes events and edits, which are on the disk when it answers; the
writer's writes summaries, which may take minutes, and deletes.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

import polars as pl

from trsr.append import catch_up, grow, read_frame
from trsr.data.notes import Notes
from trsr.errors import TrsrError, UsageError
from trsr.recommender import Recommender
from trsr.records import ITEM, TIME, USER, Finding, Usage
from trsr.serve.lanes import Lane
from trsr.summarize.summarizer import Summarizer
from trsr.users import UserRow, Users

LAST_WAIT_S: Final = 5.0
"""What a thread is at when the service stops has so long; a summary that isn't written is written later."""
_USERS_A_TURN: Final = 16
"""Users whose summaries are written together in the background; whoever deletes one waits for a turn."""
_LOOK_AGAIN_S: Final = 30.0
"""Others may append to the same users: who is behind is looked for so often, too."""
_FIRST_PAUSE_S: Final = 2.0
_LONGEST_PAUSE_S: Final = 300.0
_CHANGES_HELD: Final = 100
"""Users whose last change can be taken back."""
_OF_PROFILE: Final = ("summary", "blocks", "state", "failed", "edited")


@dataclass(slots=True)
class State:
    """How the background does.

    Parameters
    ----------
    trouble
        Why no summary can be written now; empty when they can.
    written
        How many were.
    failing
        Users whose summary could not be written, with the reason and when it is tried again.
    undeleted
        Why nobody can be deleted now; it is tried again.
    """

    trouble: str = ""
    written: int = 0
    failing: dict[str, tuple[str, float]] = field(default_factory=dict)
    undeleted: str = ""


class Keeper:
    """Keeps the users of one recommender, who may be nobody."""

    def __init__(self, recommender: Recommender) -> None:
        self.recommender = recommender
        self.state = State()
        self._store, self._writer = Lane("store"), Lane("writer")
        self._opened: dict[Lane, Users] = {}
        self._changed: OrderedDict[str, tuple[UserRow, UserRow]] = OrderedDict()
        self._wake, self._leave_soon = asyncio.Event(), asyncio.Event()
        self._background: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        """Begin to write summaries in the background, and to delete who is to be deleted."""
        both = (self._keep_up(), self._see_off())
        self._background = [asyncio.create_task(each) for each in both]

    async def end(self) -> bool:
        """Leave the background; says whether all that was under way is done."""
        for task in self._background:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        closed = [await lane.close(LAST_WAIT_S) for lane in (self._store, self._writer)]
        if all(closed):
            for users in self._opened.values():
                users.close()
        return all(closed)

    @property
    def spent(self) -> Usage:
        """Calls for summaries that this process has paid for, and their tokens."""
        opened: Summarizer | None = vars(self.recommender).get("summarizer")
        return Usage() if opened is None else opened.spent

    # -- Reading and changing --------------------------------------------------------------------------------

    async def append(self, events: Sequence[tuple[str, str, int]]) -> tuple[list[UserRow], Sequence[Finding]]:
        """Put events (user, item, unix seconds) behind the histories; when it returns they are on the disk.

        Returned are the users with new events, and what was left out or repaired. Raises DataError when no
        event has an item of the catalogue, and ArtifactError when they can't be written.
        """

        def work() -> tuple[list[UserRow], Sequence[Finding]]:
            notes = Notes()
            frame = pl.DataFrame(events, schema=(USER, ITEM, TIME), orient="row")
            with notes.told_with_errors():
                read = read_frame(frame, self.recommender.catalogue.ids, self.recommender.config, notes)
            return grow(self._users(self._store), read, notes), notes.findings()

        rows, findings = await self._store(work)
        if rows:
            self._wake.set()
        return rows, findings

    async def user(self, user_id: str) -> UserRow:
        """Read all that is known of a user; raises DataError when there is none."""
        return await self._store(lambda: self._users(self._store).get(user_id))

    async def find(self, begins: str, limit: int) -> list[UserRow]:
        """Find the first users whose id begins with a text."""
        return await self._store(lambda: self._users(self._store).beginning(begins, limit))

    async def edit(self, user_id: str, text: str | None) -> UserRow:
        """Put a person's text in the place of a summary; None takes it away again."""

        def work() -> tuple[UserRow, UserRow]:
            users = self._users(self._store)
            before = users.get(user_id)
            [row] = users.change([user_id], lambda now: [replace(now[user_id], edited=text)])
            return before, row

        return self._noted(*await self._store(work))

    async def rewrite(self, user_id: str, block: int, text: str | None, *, fresh: bool) -> UserRow:
        """Write a summary again from a block on; see `trsr.serve.profiles.rewrite`."""
        from trsr.serve.profiles import rewrite  # noqa: PLC0415  imports the writers

        def work() -> tuple[UserRow, UserRow]:
            users = self._users(self._writer)
            before = users.get(user_id)
            return before, rewrite(self.recommender, users, user_id, block, text, fresh=fresh)

        return self._noted(*await self._writer(work))

    def can_undo(self, row: UserRow) -> bool:
        """Say whether the last edit or rewriting of a user can be taken back."""
        return row.user_id in self._changed and _is_still(row, *self._changed[row.user_id])

    async def undo(self, user_id: str) -> UserRow:
        """Take the last edit or rewriting back, as long as this process remembers it and nothing followed.

        Raises UsageError where it can't.
        """
        if user_id not in self._changed:
            message = f"there is no edit or rewriting of {user_id!r} that can be taken back"
            raise UsageError(message)
        before, after = self._changed[user_id]

        def work() -> UserRow:
            users = self._users(self._store)
            users.get(user_id)
            [row] = users.change([user_id], lambda now: [_undone(now[user_id], before, after)])
            return row

        row = await self._store(work)
        self._changed.pop(user_id, None)
        return row

    def _noted(self, before: UserRow, after: UserRow) -> UserRow:
        self._changed[after.user_id] = before, after
        self._changed.move_to_end(after.user_id)
        while len(self._changed) > _CHANGES_HELD:
            self._changed.popitem(last=False)
        return after

    # -- Forgetting ------------------------------------------------------------------------------------------

    async def forget(self, user_id: str) -> list[str]:
        """Delete all that is known of a user; see `trsr.serve.profiles.forget`. Says what went."""
        from trsr.serve.profiles import forget  # noqa: PLC0415  as above

        self._changed.pop(user_id, None)
        removed = await self._writer(lambda: forget(self.recommender, self._users(self._writer), user_id))
        self._changed.pop(user_id, None)
        await self._let_go(user_id)
        return removed

    async def leave(self, user_id: str, after_s: int) -> int:
        """Note that a user is to be deleted, and hide it until then; says when (unix seconds).

        The note is on the disk when this returns: a service that is stopped or killed deletes after its next
        start. Raises DataError when there is no such user.
        """
        at = int(time.time()) + after_s

        def work() -> None:
            users = self._users(self._store)
            users.get(user_id)
            users.change([user_id], lambda now: [replace(now[user_id], leaves=at)])

        await self._store(work)
        self._leave_soon.set()
        return at

    async def stay(self, user_id: str) -> UserRow:
        """Take a deletion back; raises UsageError when there was none, or it is carried out."""

        def stays(now: dict[str, UserRow]) -> list[UserRow]:
            if user_id not in now or not now[user_id].leaves:
                message = f"the deletion of {user_id!r} can't be taken back: there is none, or it is done"
                raise UsageError(message)
            return [replace(now[user_id], leaves=None)]

        [row] = await self._store(lambda: self._users(self._store).change([user_id], stays))
        return row

    async def leaving(self) -> dict[str, int]:
        """Return the users who are to be deleted, and when (unix seconds)."""
        return await self._store(lambda: self._users(self._store).leaving())

    async def _let_go(self, user_id: str) -> None:
        """Forget what is held in memory of a user."""

    def _users(self, lane: Lane) -> Users:
        """Give the lane's own connection: a transaction of one thread must not meet another's."""
        if lane not in self._opened:
            self._opened[lane] = self.recommender.open_users()
        return self._opened[lane]

    # -- Background ------------------------------------------------------------------------------------------

    async def _keep_up(self) -> None:
        """Write the summaries of users who are behind, as long as there are some."""

        def told(trouble: str) -> None:
            self.state.trouble = trouble

        await _again_and_again(self._turn, self._wake, told)

    async def _see_off(self) -> None:
        """Delete users when their time has come."""

        def told(trouble: str) -> None:
            self.state.undeleted = trouble

        await _again_and_again(self._delete_due, self._leave_soon, told)

    async def _delete_due(self) -> float:
        """Delete who is due; says in how many seconds the next one is."""
        now = time.time()
        for user_id, at in (await self.leaving()).items():
            if at > now:
                return min(at - now, _LOOK_AGAIN_S)
            if await self._claim(user_id, at):
                await self.forget(user_id)
        return _LOOK_AGAIN_S

    async def _claim(self, user_id: str, at: int) -> bool:
        """Say that nobody takes the deletion back any more; after a kill it is the first that is due."""

        def claim(now: dict[str, UserRow]) -> list[UserRow]:
            return [replace(row, leaves=0) for row in now.values() if row.leaves == at]

        return bool(await self._store(lambda: self._users(self._store).change([user_id], claim)))

    async def _turn(self) -> float:
        """Write some summaries; says in how many seconds to look again: at once where there was somebody."""
        now = time.monotonic()
        failing = {user: told for user, told in self.state.failing.items() if told[1] > now}
        self.state.failing = failing
        recommender = self.recommender

        def work() -> tuple[list[str], int]:
            users = self._users(self._writer)
            found = users.behind(_USERS_A_TURN + len(failing))
            names = [user for user in found if user not in failing][:_USERS_A_TURN]
            written = (
                catch_up(users, names, recommender.read, recommender.config, recommender.summarizer)
                if names
                else []
            )
            for summary in written:
                if summary.failed:
                    failing[summary.user_id] = (summary.failed, time.monotonic() + _LONGEST_PAUSE_S)
            return names, len([summary for summary in written if not summary.failed])

        names, written = await self._writer(work)
        self.state.written += written
        return 0.0 if names else _LOOK_AGAIN_S


async def _again_and_again(
    work: Callable[[], Coroutine[Any, Any, float]], wake: asyncio.Event, told: Callable[[str], None]
) -> None:
    """Do it when it is woken, and after as many seconds as it says; a fault is told, and doesn't end it."""
    pause = _FIRST_PAUSE_S
    while True:
        wake.clear()
        try:
            wait = await work()
            told("")
            pause = _FIRST_PAUSE_S
        # A server that is away, a cap reached, a full disk; or a fault, which must not end it either.
        except Exception as error:
            told(str(error) if isinstance(error, TrsrError) else f"{type(error).__name__}: {error}")
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
            continue
        if wait > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await wake.wait()


def _is_still(now: UserRow, before: UserRow, after: UserRow) -> bool:
    """Say whether what a change changed is still so."""
    changed = [name for name in _OF_PROFILE if getattr(before, name) != getattr(after, name)]
    return all(getattr(now, name) == getattr(after, name) for name in changed)


def _undone(now: UserRow, before: UserRow, after: UserRow) -> UserRow:
    """Put what a change changed back, and nothing else; raises UsageError when it was changed again."""
    if not _is_still(now, before, after):
        message = f"the profile of {now.user_id!r} has changed since; look at it, and edit it"
        raise UsageError(message)
    names = [name for name in _OF_PROFILE if getattr(before, name) != getattr(after, name)]
    row = replace(now, **{name: getattr(before, name) for name in names})
    if before.blocks == after.blocks and before.summary == after.summary:
        return row
    read = len(before.history) if before.read is None else before.read
    return replace(row, read=None if read == len(now.history) else read)
