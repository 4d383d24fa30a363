"""The users that a run serves, a row each: reading one costs the same among thousands and among millions.

The Parquet tables of a run stay what was trained on and measured. The rows begin as a copy of them, and go on
with the events that are appended.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Self

import polars as pl

from trsr.artifacts import RunFolder, hash_value, read_parquet
from trsr.errors import ArtifactError, UnknownUser
from trsr.records import BLOCK_SUMMARIES, CANDIDATES, FAILED, HISTORY, STATE, SUMMARY, TIMES, USER

Tables = tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]
"""A run's histories, candidates and summaries."""

_FORMAT: Final = 1
_WAIT_S: Final = 60.0
_ROWS_A_BATCH: Final = 10_000


@dataclass(frozen=True, slots=True)
class UserRow:
    """What is known of one user.

    Parameters
    ----------
    history, times
        Items and their times (unix seconds; None where unknown), oldest first.
    candidates
        What the run ranked for the user; None for a user of later events.
    summary, failed, blocks, state
        As in the table of summaries; no summary while none was written.
    untimed
        Hashes of the tables that gave the user events without a time.
    appended
        Whether there are events that the run didn't have.
    read
        How many events of the history, oldest first, the summary was written from; None for all of them.
    edited
        What a person has put in the summary's place; None where nobody has.
    leaves
        When the user is to be deleted (unix seconds): until then nobody is told of the user, and it can be
        taken back. None: the user stays.
    """

    user_id: str
    history: Sequence[str] = ()
    candidates: Sequence[str] | None = None
    summary: str | None = None
    failed: str = ""
    times: Sequence[int | None] = ()
    untimed: Sequence[str] = ()
    blocks: Sequence[str] = ()
    state: str = ""
    appended: bool = False
    read: int | None = None
    edited: str | None = None
    leaves: int | None = None

    @property
    def shown(self) -> str | None:
        """What the ranker is told: a person's text goes before the writer's."""
        return self.summary if self.edited is None else self.edited

    @property
    def unread(self) -> int:
        """How many of the newest events the summary doesn't know yet."""
        return 0 if self.read is None else len(self.history) - self.read

    @property
    def is_unfinished(self) -> bool:
        """Whether there is no summary, or it failed."""
        return self.summary is None or bool(self.failed)


_ASIDE: Final = {"read": "behind", "edited": "edits", "leaves": "leaving"}
"""Known of few users, so that they have tables of their own: who is behind is found without reading all."""
_COLUMNS: Final = tuple(field.name for field in fields(UserRow) if field.name not in _ASIDE)
_LISTS: Final = frozenset(("history", "times", "untimed", "candidates", "blocks"))
SERVED: Final = _COLUMNS[:5]
"""Columns that ranking reads. They come first: of a long row, what follows them isn't looked at."""
_TABLES: Final = f"""
    CREATE TABLE IF NOT EXISTS users (user_id TEXT PRIMARY KEY, {", ".join(_COLUMNS[1:])});
    CREATE TABLE IF NOT EXISTS told (name TEXT PRIMARY KEY, value TEXT);
    INSERT OR IGNORE INTO told VALUES ('format', '{_FORMAT}');
"""
_TABLES_ASIDE: Final = """
    CREATE TABLE IF NOT EXISTS behind (user_id TEXT PRIMARY KEY, read INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS edits (user_id TEXT PRIMARY KEY, edited TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS leaving (user_id TEXT PRIMARY KEY, leaves INTEGER NOT NULL);
"""


class Users:
    """A file of users, read and written one row at a time; every write is there as a whole or not at all.

    Parameters
    ----------
    path
        The file, of SQLite.
    make
        Whether to make it when it isn't there.

    Raises
    ------
    ArtifactError
        When it is missing, damaged, or of another format.
    """

    def __init__(self, path: Path, *, make: bool = False) -> None:
        self.path = path
        if not make and not path.exists():
            raise _missing(path)
        with self._telling():
            # Threads may share it: the library serialises their calls.
            self._connection = sqlite3.connect(path, timeout=_WAIT_S, check_same_thread=False)
        try:
            with self._telling():
                # What is deleted must not stay in the file's free pages.
                self._connection.execute("PRAGMA secure_delete = ON")
                if make:
                    self._connection.executescript(_TABLES)
                found = self._told("format")
                self._connection.executescript(_TABLES_ASIDE)  # an older file has none
            if found != str(_FORMAT):
                message = (
                    f"{path}: format must be {_FORMAT}, got {found}; update trsr, or delete it and run again"
                )
                raise ArtifactError(message)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def get(self, user_id: str, columns: Sequence[str] = _COLUMNS) -> UserRow:
        """Read one user, or only some columns of one; raises UnknownUser when there is none, or it leaves."""
        for row in self._read([user_id], columns):
            if row.leaves is None:
                return row
        message = f"{self.path}: no user {user_id!r}; give --history with item ids, or a user of the run"
        raise UnknownUser(message)

    def find(self, user_ids: Iterable[str]) -> dict[str, UserRow]:
        """Read the users that there are among some."""
        return {row.user_id: row for row in self._read(user_ids, _COLUMNS)}

    def put(self, rows: Iterable[UserRow], before: Mapping[str, UserRow] | None = None) -> None:
        """Write users, all of them or, when it is interrupted, none.

        Raises ArtifactError when `before`, what some users are to be now, isn't what the file holds.
        """

        def unless_changed(now: dict[str, UserRow]) -> Iterable[UserRow]:
            if before is not None and now != before:
                message = f"{self.path}: others have appended to these users meanwhile; append again"
                raise ArtifactError(message)
            return rows

        self.change(before or (), unless_changed)

    def change(
        self, user_ids: Iterable[str], how: Callable[[dict[str, UserRow]], Iterable[UserRow]]
    ) -> list[UserRow]:
        """Write what `how` makes of the users that there are among some; nobody else writes meanwhile.

        Returned is what was written: it is on the disk.
        """
        with self._telling(), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            rows = list(how(self.find(user_ids)))
            self._write("INSERT OR REPLACE INTO users VALUES ({})", rows)
            for name, table in _ASIDE.items():
                told = [(row.user_id, getattr(row, name)) for row in rows]
                self._connection.executemany(
                    f"DELETE FROM {table} WHERE user_id = ?", [(user,) for user, _ in told]
                )
                self._connection.executemany(
                    f"INSERT INTO {table} VALUES (?, ?)", [each for each in told if each[1] is not None]
                )
        return rows

    def ids(self) -> list[str]:
        """Return all users, by their ids."""
        with self._telling():
            found = self._connection.execute("SELECT user_id FROM users ORDER BY user_id").fetchall()
        return [user_id for (user_id,) in found]

    def behind(self, limit: int = -1) -> list[str]:
        """Return users whose summary doesn't know their newest events yet, `limit` at most."""
        query = "SELECT user_id FROM behind WHERE user_id NOT IN (SELECT user_id FROM leaving) LIMIT ?"
        with self._telling():
            found = self._connection.execute(query, [limit]).fetchall()
        return [user_id for (user_id,) in found]

    def leaving(self) -> dict[str, int]:
        """Return the users who are to be deleted, and when (unix seconds); the first come first."""
        with self._telling():
            return dict(
                self._connection.execute("SELECT user_id, leaves FROM leaving ORDER BY leaves, user_id")
            )

    def beginning(self, text: str, limit: int) -> list[UserRow]:
        """Return the first users by id whose id begins with a text; as quick among millions as `get`."""
        query = "SELECT user_id FROM users WHERE user_id >= ? AND user_id < ? ORDER BY user_id LIMIT ?"
        asked = [text, text + chr(sys.maxunicode), limit + len(self.leaving())]
        with self._telling():
            found = [user_id for (user_id,) in self._connection.execute(query, asked)]
        return [row for row in self._read(found, SERVED) if row.leaves is None][:limit]

    def forget(self, user_id: str) -> bool:
        """Delete a user, and the bytes of the row; says whether there was one."""
        with self._telling(), self._connection:
            for table in (*_ASIDE.values(), "users"):
                gone = self._connection.execute(f"DELETE FROM {table} WHERE user_id = ?", [user_id]).rowcount
        if gone:
            with self._telling():
                self._connection.execute("VACUUM")
        return bool(gone)

    def is_current(self, folder: RunFolder) -> bool:
        """Say whether the rows began as what the run's tables hold now."""
        return self._told("tables") == _tables(folder)

    def note_tables(self, folder: RunFolder) -> None:
        """Note that the rows are those of the run's tables as they are now."""
        with self._telling(), self._connection:
            self._note_tables(folder)

    def refresh(self, folder: RunFolder, tables: Callable[[], Tables] | None = None) -> None:
        """Take the run's tables over when they are others than before; users with later events keep theirs.

        `tables` gives them, where they are in memory already. Raises ArtifactError when one is missing or
        damaged.
        """
        if self.is_current(folder):
            return
        with self._telling(), self._connection:
            self._connection.execute("DELETE FROM users WHERE NOT appended")
            self._write(
                "INSERT INTO users VALUES ({}) ON CONFLICT DO UPDATE SET candidates = excluded.candidates",
                _rows_of(*(tables() if tables else _tables_of(folder))),
            )
            self._note_tables(folder)

    def _note_tables(self, folder: RunFolder) -> None:
        self._connection.execute("INSERT OR REPLACE INTO told VALUES ('tables', ?)", [_tables(folder)])

    def _told(self, name: str) -> str | None:
        with self._telling():
            found = self._connection.execute("SELECT value FROM told WHERE name = ?", [name]).fetchone()
        return None if found is None else str(found[0])

    def _read(self, user_ids: Iterable[str], columns: Sequence[str]) -> Iterator[UserRow]:
        aside = ", ".join(
            f"(SELECT {name} FROM {table} WHERE {table}.user_id = users.user_id)"
            for name, table in _ASIDE.items()
        )
        query = f"SELECT {', '.join(columns)}, {aside} FROM users WHERE user_id = ?"
        with self._telling():
            for user_id in user_ids:
                for found in self._connection.execute(query, [user_id]):
                    values = dict(zip((*columns, *_ASIDE), found, strict=True))
                    for name in _LISTS & values.keys():
                        values[name] = None if values[name] is None else json.loads(values[name])
                    if "state" in values:
                        values["state"] = zlib.decompress(values["state"]).decode()
                    yield UserRow(**{"user_id": user_id, **values})

    def _write(self, statement: str, rows: Iterable[UserRow]) -> None:
        told = ([_stored(name, getattr(row, name)) for name in _COLUMNS] for row in rows)
        self._connection.executemany(statement.format(", ".join("?" * len(_COLUMNS))), told)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            message = f"{self.path}: can't be used as a store of users ({error}); {_AGAIN}"
            raise ArtifactError(message) from error


def _stored(name: str, value: Any) -> Any:
    if name == "state":  # nine tenths of a row, read only when events are appended
        return zlib.compress(value.encode(), 1)
    return json.dumps(value, ensure_ascii=False) if name in _LISTS and value is not None else value


_AGAIN: Final = "delete it, and `trsr run` on the run folder writes it again, without appended events"


def open_users(folder: RunFolder) -> Users:
    """Open the users of a run to be served.

    Raises ArtifactError when there are none yet, or the run's tables are newer.
    """
    users = Users(folder.users)
    if not users.is_current(folder):
        users.close()
        raise _missing(folder.users, "is older than the run's tables")
    return users


def update_users(folder: RunFolder, tables: Callable[[], Tables] | None = None) -> None:
    """Bring the users of a run up to its tables, where it has summaries.

    `tables` gives histories, candidates and summaries, where they are in memory already.
    """
    if folder.summaries.exists():
        with Users(folder.users, make=True) as users:
            users.refresh(folder, tables)


def _missing(path: Path, why: str = "is missing") -> ArtifactError:
    return ArtifactError(f"{path} {why}: run `trsr summarize` on this run folder first")


def _tables(folder: RunFolder) -> str:
    """Name the content of the tables that rows are made from, by what the manifest says of them."""
    outputs = {name: hashed for stage in folder.entries().values() for name, hashed in stage.outputs.items()}
    wanted = (folder.histories, folder.candidates, folder.summaries)
    return hash_value([outputs.get(str(path.relative_to(folder.path))) for path in wanted])


def _tables_of(folder: RunFolder) -> Tables:
    histories, candidates, summaries = (
        read_parquet(path) for path in (folder.histories, folder.candidates, folder.summaries)
    )
    return histories, candidates, summaries


def _rows_of(histories: pl.DataFrame, candidates: pl.DataFrame, summaries: pl.DataFrame) -> Iterator[UserRow]:
    if FAILED not in summaries.columns:  # tables that were written before failures were told
        summaries = summaries.with_columns(pl.lit("").alias(FAILED))
    rows = (
        histories.select(USER, HISTORY, TIMES)
        .join(candidates.select(USER, CANDIDATES), on=USER, how="left")
        .join(summaries.select(USER, SUMMARY, BLOCK_SUMMARIES, STATE, FAILED), on=USER, how="left")
    )
    for part in rows.iter_slices(_ROWS_A_BATCH):
        for row in part.iter_rows(named=True):
            yield UserRow(
                user_id=row[USER],
                history=row[HISTORY],
                candidates=row[CANDIDATES],
                summary=row[SUMMARY],
                failed=row[FAILED] or "",
                times=row[TIMES] or [None] * len(row[HISTORY]),
                blocks=row[BLOCK_SUMMARIES] or (),
                state=row[STATE] or "",
            )
