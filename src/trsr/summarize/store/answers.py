"""Every answer of a model, kept once, and who is asking for which."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from trsr.errors import StoreError
from trsr.llm.generator import SCORED, Completion
from trsr.summarize.store.database import ANSWER_USERS, ANSWERS, CLAIMS, OWNERS, Database, Question

KEYS_A_STATEMENT: Final = 500  # databases cap the number of values in one statement
_BEATS_A_LEASE: Final = 3


class Claims:
    """The claims of one store object.

    An owner that shows no sign of life for `lease_s` seconds is taken for dead.
    """

    def __init__(self, database: Database, lease_s: float) -> None:
        self._database = database
        self._lease_s = lease_s
        self.owner = _name_owner()
        self._lock = threading.Lock()
        self._held: set[str] = set()
        self._watched: dict[str, _Sight] = {}
        self._ended = threading.Event()
        self._heart: threading.Thread | None = None

    def take(self, keys: Collection[str]) -> set[str]:
        """Claim what is neither answered nor claimed, and return it.

        What isn't returned is answered by now, or somebody is at it: look for the
        answer and call again. Called at least every third of a lease, this is also
        what finds out that an owner has died.
        """
        with self._lock:
            if self._heart is None:
                self._database.run("written", self._beat, writes=True)
                self._heart = threading.Thread(target=self._live, name="trsr-claims", daemon=True)
                self._heart.start()
            for owner, beat in self._find_dead(self._others(keys)):
                self._database.run("written", partial(_evict, owner=owner, beat=beat), writes=True)
            # Sorted: two processes that claim the same keys must come to them in the same order.
            taken = self._database.run("written", lambda c: self._insert(c, sorted(keys)), writes=True)
            self._held |= taken
            return taken

    def drop(self, keys: Collection[str]) -> None:
        """Give claims back, because their calls failed or were answered."""
        mine = [key for key in keys if key in self._held]
        if mine:
            self._database.run("written", lambda c: _delete(c, mine, self.owner), writes=True)
        self.forget(mine)

    def forget(self, keys: Collection[str]) -> None:
        """Note that the claims of `keys` are gone from the database."""
        with self._lock:
            self._held -= set(keys)

    def close(self) -> None:
        """Give everything back; a database that is gone by now keeps claims, which end with their lease."""
        self._ended.set()
        if self._heart is None:
            return
        self._heart.join()
        self._heart = None
        try:
            self._database.run("written", partial(_evict, owner=self.owner, beat=None), writes=True)
        except StoreError:
            return

    def _live(self) -> None:
        while not self._ended.wait(self._lease_s / _BEATS_A_LEASE):
            try:
                self._database.run("written", self._beat, writes=True)
            except StoreError:
                continue  # whoever uses the store meets the same error, and is told

    def _beat(self, connection: sa.Connection) -> None:
        mine = OWNERS.c.owner == self.owner
        beaten = connection.execute(sa.update(OWNERS).where(mine).values(beat=OWNERS.c.beat + 1))
        if not beaten.rowcount:  # the first one, or the first after this process was taken for dead
            connection.execute(sa.insert(OWNERS).values(owner=self.owner, beat=1))

    def _insert(self, connection: sa.Connection, keys: list[str]) -> set[str]:
        taken: set[str] = set()
        for start in range(0, len(keys), KEYS_A_STATEMENT):
            chunk = keys[start : start + KEYS_A_STATEMENT]
            rows = [{"key": key, "owner": self.owner} for key in chunk]
            connection.execute(insert_new(connection, CLAIMS).values(rows))
            mine = sa.select(CLAIMS.c.key).where(CLAIMS.c.key.in_(chunk), CLAIMS.c.owner == self.owner)
            new = set(connection.execute(mine).scalars()) - self._held
            # An answer and the end of its claim are one transaction: whoever claims after it sees it here.
            there = set(connection.execute(sa.select(ANSWERS.c.key).where(ANSWERS.c.key.in_(new))).scalars())
            _delete(connection, sorted(there), self.owner)
            taken |= new - there
        return taken

    def _others(self, keys: Collection[str]) -> dict[str, int]:
        """Return who else holds claims on `keys`, with their heartbeat."""

        def read(connection: sa.Connection) -> dict[str, int]:
            found: dict[str, int] = {}
            listed = sorted(keys)
            for start in range(0, len(listed), KEYS_A_STATEMENT):
                chunk = listed[start : start + KEYS_A_STATEMENT]
                rows = connection.execute(
                    sa.select(CLAIMS.c.owner, OWNERS.c.beat)
                    .join(OWNERS, OWNERS.c.owner == CLAIMS.c.owner, isouter=True)
                    .where(CLAIMS.c.key.in_(chunk), CLAIMS.c.owner != self.owner)
                    .distinct()
                )
                found |= {row.owner: row.beat or 0 for row in rows}
            return found

        return self._database.run("read", read)

    def _find_dead(self, others: dict[str, int]) -> list[tuple[str, int]]:
        now = time.monotonic()
        watched = {owner: self._watched.get(owner, _Sight(now, now, beat)) for owner, beat in others.items()}
        for owner, beat in others.items():
            watched[owner].look(now, beat, longest_gap_s=self._lease_s / _BEATS_A_LEASE)
        self._watched = watched
        return [
            (owner, beat)
            for owner, beat in others.items()
            if watched[owner].unchanged_s >= self._lease_s or _is_gone(owner)
        ]


class _Sight:
    """Since when one owner's heartbeat stands still, as far as it was watched."""

    def __init__(self, since: float, last: float, beat: int) -> None:
        self._since = since
        self._last = last
        self._beat = beat

    def look(self, now: float, beat: int, longest_gap_s: float) -> None:
        """Take in a heartbeat; after a gap in the watching, the waiting begins anew."""
        if beat != self._beat or now - self._last > longest_gap_s:
            self._since, self._beat = now, beat
        self._last = now

    @property
    def unchanged_s(self) -> float:
        return self._last - self._since


def insert_new(connection: sa.Connection, table: sa.Table) -> Any:
    """Make an insertion that leaves rows alone that are there already."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table).on_conflict_do_nothing()


def _delete(connection: sa.Connection, keys: list[str], owner: str) -> None:
    for start in range(0, len(keys), KEYS_A_STATEMENT):
        chunk = keys[start : start + KEYS_A_STATEMENT]
        connection.execute(sa.delete(CLAIMS).where(CLAIMS.c.key.in_(chunk), CLAIMS.c.owner == owner))


def _evict(connection: sa.Connection, owner: str, beat: int | None) -> None:
    """Delete an owner and its claims, unless it has given a sign of life since `beat`."""
    condition = OWNERS.c.owner == owner
    if beat is not None:
        condition &= OWNERS.c.beat == beat
    gone = connection.execute(sa.delete(OWNERS).where(condition)).rowcount
    if gone or not connection.execute(sa.select(OWNERS).where(OWNERS.c.owner == owner)).first():
        connection.execute(sa.delete(CLAIMS).where(CLAIMS.c.owner == owner))


def _name_owner() -> str:
    """Name this store object: its machine and its process, and a number, for a process may open several."""
    return "|".join([_machine(), str(os.getpid()), _start_of(os.getpid()), uuid.uuid4().hex])


def _is_gone(owner: str) -> bool:
    """Say whether the owner was a process of this machine that has ended; elsewhere only its lease tells."""
    machine, pid, start, _ = owner.rsplit("|", 3)
    return bool(start) and machine == _machine() and _start_of(int(pid)) != start


def _machine() -> str:
    """Name the running system and the space in which its process ids count; containers have their own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{socket.gethostname()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _start_of(pid: int) -> str:
    """When a process started, in ticks since the machine did; empty where it ended or that can't be known."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    state, *fields = line.rpartition(")")[2].split()
    return "" if state in ("Z", "X") else fields[18]


_POLLS_A_LEASE: Final = 60


class Store:
    """Keeps answers by the key of their question.

    An answer counts once `put` has returned: it is committed then, and a killed
    process can't lose it. Several processes, on one machine or many, may share a
    store; the first answer to a question stays, and with `claim` no two of them pay
    for the same one. Threads may share a store.

    The URL is ``sqlite:///answers.db`` (the file and its folder are made when absent), or
    ``postgresql://user:password@host/database`` for several machines. After `lease_s` seconds the claims of a
    process that shows no sign of life are free; processes of this machine that have ended are known at once.
    A database that goes away is waited for `patience_s` seconds. `poll_s` is how long to wait before looking
    again for what others have claimed. All methods raise StoreError when the store can't be read or written.

    Examples
    --------
    >>> from trsr.config.summary import Sampling
    >>> from trsr.llm.generator import Chat
    >>> with Store("sqlite://") as store:
    ...     question = Question("tiny@1", Sampling(), Chat("Hello"))
    ...     ours = store.claim([question.key])
    ...     _ = store.put(question, Completion("Hi.", 1, 2, "stop"), users=["u1"])
    ...     store.get_many([question.key])[question.key].text
    'Hi.'
    """

    def __init__(self, url: str, *, lease_s: float = 30.0, patience_s: float = 300.0) -> None:
        self.database = Database(url, patience_s)
        self.poll_s = min(1.0, lease_s / _POLLS_A_LEASE)
        self._claims = Claims(self.database, lease_s)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give all claims back, and let go of the database's connections."""
        self._claims.close()
        self.database.close()

    def get_many(self, keys: Collection[str]) -> dict[str, Completion]:
        """Return the answers that are there, by key."""
        distinct = list(dict.fromkeys(keys))
        return self.database.run("read", lambda connection: _read(connection, distinct)) if distinct else {}

    def claim(self, keys: Collection[str]) -> set[str]:
        """Claim the questions that are neither answered nor claimed; return those that are now ours to pay.

        Of the others, the answer is there by now, or another process (or another thread
        of this one) is at it: wait `poll_s`, look with `get_many`, and claim again.
        A claim ends with `put` or `release`; that of a killed process goes to whoever
        claims next, at the latest after its lease.
        """
        return self._claims.take(set(keys)) if keys else set()

    def release(self, keys: Collection[str]) -> None:
        """Give claims back whose calls failed, or were never made."""
        self._claims.drop(keys)

    def put(self, question: Question, completion: Completion, users: Iterable[str] = ()) -> Completion:
        """Commit an answer, say whose items or summaries stand in its prompt, and end its claim.

        Returns the answer that stands: the one given, or that which was there first.
        """
        key, row = question.key, _row(question, completion)

        def write(connection: sa.Connection) -> Completion:
            connection.execute(insert_new(connection, ANSWERS).values(row))
            _tie(connection, {key: users})
            connection.execute(sa.delete(CLAIMS).where(CLAIMS.c.key == key))
            return _read(connection, [key])[key]

        stands = self.database.run("written", write, writes=True)
        self._claims.forget([key])
        return stands

    def tie(self, users: Mapping[str, Iterable[str]]) -> None:
        """Say whose text stored answers hold, by key, also of those who were answered from the store."""
        listed = {key: tuple(names) for key, names in users.items()}
        known = self.database.run("read", lambda connection: _ties(connection, list(listed)))
        missing = {key: [name for name in names if (key, name) not in known] for key, names in listed.items()}
        if any(missing.values()):
            self.database.run("written", lambda connection: _tie(connection, missing), writes=True)


def _read(connection: sa.Connection, keys: Sequence[str]) -> dict[str, Completion]:
    found: dict[str, Completion] = {}
    for start in range(0, len(keys), KEYS_A_STATEMENT):
        chunk = keys[start : start + KEYS_A_STATEMENT]
        for row in connection.execute(sa.select(ANSWERS).where(ANSWERS.c.key.in_(chunk))):
            prompt, completion = tokens_told(row._mapping)
            found[row.key] = Completion(row.answer, prompt, completion, row.finish_reason)
    return found


def tokens_told(row: Mapping[Any, Any]) -> tuple[int | None, int | None]:
    """Return the tokens that the server told.

    0 stands for none that was told, unless the prompt has some and nothing was written.
    """
    prompt, completion = row["prompt_tokens"] or None, row["completion_tokens"]
    written = row["answer"] != "" and row["finish_reason"] != SCORED
    return prompt, None if completion == 0 and (written or prompt is None) else completion


def _ties(connection: sa.Connection, keys: Sequence[str]) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for start in range(0, len(keys), KEYS_A_STATEMENT):
        chunk = keys[start : start + KEYS_A_STATEMENT]
        rows = connection.execute(sa.select(ANSWER_USERS).where(ANSWER_USERS.c.key.in_(chunk)))
        found |= {(row.key, row.user_id) for row in rows}
    return found


def _tie(connection: sa.Connection, users: Mapping[str, Iterable[str]]) -> None:
    rows = sorted({(key, storable(name)) for key, names in users.items() for name in names if name})
    for start in range(0, len(rows), KEYS_A_STATEMENT):
        chunk = [{"key": key, "user_id": name} for key, name in rows[start : start + KEYS_A_STATEMENT]]
        connection.execute(insert_new(connection, ANSWER_USERS).values(chunk))


def _row(question: Question, completion: Completion) -> Mapping[str, Any]:
    return {
        "key": question.key,
        "model": storable(question.model),
        "sampling": question.sampling.model_dump(mode="json") | dict.fromkeys(completion.omitted),
        "template": question.template,
        "system_prompt": storable(question.chat.system),
        "user_prompt": storable(question.chat.written),
        "answer": storable(completion.text),
        "prompt_tokens": completion.prompt_tokens or 0,
        "completion_tokens": completion.completion_tokens or 0,
        "finish_reason": storable(completion.finish_reason),
        "created_at": datetime.now(UTC),
    }


def storable(text: str) -> str:
    r"""Replace what databases refuse: null bytes, and halves of characters that no UTF-8 text holds.

    Examples
    --------
    >>> storable("a\x00b")
    'a\ufffdb'
    """
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


_Asked = TypeVar("_Asked")
_Given = TypeVar("_Given")


class Together(Generic[_Asked, _Given]):
    """Does work that blocks in a thread, for all at once who asked while the last of it was done.

    What was asked for is done even when nobody waits for it any more.
    """

    def __init__(self, work: Callable[[list[_Asked]], list[_Given]], thread: Executor | None = None) -> None:
        self._work = work
        self._thread = thread
        self._waiting: list[tuple[_Asked, asyncio.Future[_Given]]] = []
        self._task: asyncio.Task[None] | None = None

    def __call__(self, asked: _Asked) -> asyncio.Future[_Given]:
        """Ask for one."""
        loop = asyncio.get_running_loop()
        given: asyncio.Future[_Given] = loop.create_future()
        self._waiting.append((asked, given))
        if self._task is None:
            self._task = loop.create_task(self._run())  # whoever asks in the same moment comes along
        return given

    async def finish(self) -> None:
        """Wait until all is done."""
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            try:
                results = await loop.run_in_executor(self._thread, self._work, [each for each, _ in waiting])
                for (_, given), result in zip(waiting, results, strict=True):
                    if not given.done():
                        given.set_result(result)
            except Exception as error:  # told to those who asked
                for _, given in waiting:
                    if not given.done():
                        given.set_exception(error)
        self._task = None
