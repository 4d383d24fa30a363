"""Who pays for which call, so that several processes on one store never pay for the same one at once.

A claim is a row with its owner. While an owner lives, a number in its own row grows
(its heartbeat). Whoever waits for a claim watches that number: when it stood still
for a whole lease, the owner is taken for dead, and its claims are free. An owner of
the same machine whose process is gone is dead at once.

No clock is compared with another one, and none with itself across a jump: a lease is
measured by the watcher's monotonic clock alone, and only over time in which it saw
the database. So a clock that is set, or differs between machines, changes nothing.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from trsr.errors import StoreError
from trsr.summarize.store.database import ANSWERS, CLAIMS, OWNERS, Database

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
