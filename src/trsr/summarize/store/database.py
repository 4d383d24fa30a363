"""The database under the store: what an answer is stored under, its tables, connections that come back."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from trsr.artifacts import hash_value
from trsr.config.summary import Sampling
from trsr.errors import StoreError
from trsr.llm.generator import Chat


@dataclass(frozen=True, slots=True)
class Question:
    """All that decides an answer.

    `model` is the generator's identity: id, revision and, of a local model, its number format. `template`
    names the templates that worded it, with their versions.

    Examples
    --------
    >>> question = Question("tiny@1", Sampling(), Chat("Hello"), "describe 1")
    >>> question.key == Question("tiny@1", Sampling(), Chat("Hello"), "describe 1").key
    True
    >>> question.key == Question("tiny@1", Sampling(), Chat("Hello"), "describe 2").key
    False
    >>> question.key == Question("tiny@2", Sampling(), Chat("Hello"), "describe 1").key
    False
    """

    model: str
    sampling: Sampling
    chat: Chat
    template: str = ""

    @property
    def key(self) -> str:
        """SHA-256 of model, sampling, template versions, rendered prompt, and an image that it shows."""
        sampling = self.sampling.model_dump(mode="json")
        if not self.sampling.frequency_penalty:  # a later setting: answers without it keep their keys
            del sampling["frequency_penalty"]
        shown = [] if self.chat.image is None else [self.chat.image.key]
        return hash_value([self.model, sampling, self.template, self.chat.system, self.chat.user, *shown])


FORMAT: Final = 2
"""Format 1 had no template version in the key and didn't know whose text an answer holds."""

_ROWS_A_STATEMENT: Final = 1000
_ADVISORY_LOCK: Final = 0x74727372  # "trsr": one process at a time makes or changes the tables

METADATA: Final = sa.MetaData()
ANSWERS: Final = sa.Table(
    "answers",
    METADATA,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("sampling", sa.JSON, nullable=False),
    sa.Column("template", sa.Text, nullable=False),
    sa.Column("system_prompt", sa.Text, nullable=False),
    sa.Column("user_prompt", sa.Text, nullable=False),
    sa.Column("answer", sa.Text, nullable=False),
    sa.Column("prompt_tokens", sa.Integer, nullable=False),
    sa.Column("completion_tokens", sa.Integer, nullable=False),
    sa.Column("finish_reason", sa.Text, nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
)
ANSWER_USERS: Final = sa.Table(
    "answer_users",
    METADATA,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("user_id", sa.Text, primary_key=True, index=True),
)
"""Whose text an answer holds; several users when their prompts were equal."""
CLAIMS: Final = sa.Table(
    "claims",
    METADATA,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("owner", sa.Text, nullable=False, index=True),
)
"""Calls under way: who pays for which."""
OWNERS: Final = sa.Table(
    "claim_owners",
    METADATA,
    sa.Column("owner", sa.Text, primary_key=True),
    sa.Column("beat", sa.BigInteger, nullable=False),
)
"""Who makes calls, and a number that grows while they live."""
FORMATS: Final = sa.Table("store_format", METADATA, sa.Column("format", sa.Integer, primary_key=True))


def read_format(connection: sa.Connection) -> int:
    """Return the format that lies there, 0 for an empty database.

    Raises StoreError when a newer version of this program has written it.
    """
    there = sa.inspect(connection)
    if not there.has_table(FORMATS.name):
        return 1 if there.has_table(ANSWERS.name) else 0
    number = int(connection.execute(sa.select(sa.func.max(FORMATS.c.format))).scalar() or 0)
    if number > FORMAT:
        message = (
            f"it has format {number}, and this version of trsr knows formats up to {FORMAT}; "
            "install a newer version, or give another summary.store"
        )
        raise StoreError(message)
    return number


def bring_up_to_date(connection: sa.Connection) -> None:
    """Make the tables, or bring those of an older format to this one, in one transaction."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
    number = read_format(connection)
    if number == FORMAT:  # another process was first
        return
    METADATA.create_all(connection)
    if number == 1:
        _add_templates_to_keys(connection)
    connection.execute(sa.insert(FORMATS).values(format=FORMAT))


def _add_templates_to_keys(connection: sa.Connection) -> None:
    """Give every answer of format 1 the key of format 2, so that what was paid for stays paid for."""
    columns = ANSWERS.c
    rows = connection.execute(
        sa.select(
            columns.key,
            columns.model,
            columns.sampling,
            columns.system_prompt,
            columns.user_prompt,
            columns.template,
        )
    )
    changes = [
        {
            "old": row.key,
            "new": Question(
                row.model,
                Sampling.model_validate(row.sampling),
                Chat(row.user_prompt, row.system_prompt),
                row.template,
            ).key,
        }
        for row in rows
    ]
    update = sa.update(ANSWERS).where(columns.key == sa.bindparam("old")).values(key=sa.bindparam("new"))
    for start in range(0, len(changes), _ROWS_A_STATEMENT):
        connection.execute(update, changes[start : start + _ROWS_A_STATEMENT])


T = TypeVar("T")

_LOG: Final = logging.getLogger(__name__)
_BUSY_TIMEOUT_S: Final = 60.0
_OPENING_PATIENCE_S: Final = 5.0
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0
_WRITES: Final = "trsr_writes"

# PostgreSQL's codes for what passes by itself: shut down, crashed, starting up, too many connections,
# a transaction that another one got in the way of. Class 08 is a lost connection.
_STARTING: Final = frozenset({"57P01", "57P02", "57P03"})
_PASSING: Final = _STARTING | {"53300", "40001", "40P01"}


class Database:
    """Runs pieces of work as transactions; waits for a server that is restarted, and goes on.

    Work must be such that doing it twice is the same as doing it once: when the connection breaks at the
    commit, nobody knows whether it was done, and it is done again.

    `url` is SQLAlchemy's, of a SQLite file (used in WAL mode) or a PostgreSQL database; `shown` is the URL
    without its password. A database that was reached before is waited for `patience_s` seconds. Raises
    StoreError when the URL can't be opened, or what lies there is no store.
    """

    def __init__(self, url: str, patience_s: float) -> None:
        self.shown = url
        # A server that is being restarted is back soon; a wrong address must be told soon.
        self._patience_s = min(patience_s, _OPENING_PATIENCE_S)
        # A database in memory has one connection, which threads take by turns.
        self._turn = threading.RLock() if url in ("sqlite://", "sqlite:///:memory:") else nullcontext()
        with self._explained("opened"):
            parsed = _with_driver(sa.make_url(url))
            self.shown = parsed.render_as_string(hide_password=True)
            self.engine = _make_engine(parsed)
        try:
            # What is up to date already isn't written to: a store that is read-only can be read.
            if self.run("opened", read_format) != FORMAT:
                self.run("opened", bring_up_to_date, writes=True)
        except BaseException:
            self.engine.dispose()
            raise
        self._patience_s = patience_s

    def run(self, verb: str, work: Callable[[sa.Connection], T], *, writes: bool = False) -> T:
        """Do `work` in one transaction and return what it returns.

        `verb` is what it does, as the message says it: opened, read, written. `writes` takes SQLite's lock at
        the start, so that two writers wait for each other. Raises StoreError when the database refuses, or
        isn't back within the patience.
        """
        with self._explained(verb):
            began, pause = time.monotonic(), _FIRST_PAUSE_S
            while True:
                try:
                    with self._turn, self.engine.connect() as plain:
                        connection = plain.execution_options(**{_WRITES: writes})
                        with connection.begin():
                            return work(connection)
                except DBAPIError as error:
                    waited = time.monotonic() - began
                    if not self._will_pass(error) or waited > max(self._patience_s, _starting_time(error)):
                        raise
                    if pause == _FIRST_PAUSE_S:
                        _LOG.warning("%s: %s; waiting for it", self.shown, _reason(error))
                    time.sleep(pause)
                    pause = min(pause * 2, _LONGEST_PAUSE_S)

    def clean(self) -> None:
        """Take deleted text off the disk, and give the room back.

        SQLite overwrites what is deleted, but keeps it in the log of changes; PostgreSQL keeps it until the
        table is written anew. Raises StoreError when others use the store for longer than a minute.
        """
        statements = ["VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"]
        if self.engine.dialect.name == "postgresql":
            statements = [f"VACUUM FULL {table}" for table in (ANSWERS.name, ANSWER_USERS.name)]
        with self._explained("cleaned"), self._turn, self.engine.connect() as connection:
            outside = connection.execution_options(isolation_level="AUTOCOMMIT")
            for statement in statements:
                outside.exec_driver_sql(statement)

    def close(self) -> None:
        """Let go of the connections."""
        self.engine.dispose()

    def _will_pass(self, error: DBAPIError) -> bool:
        if self.engine.dialect.name == "sqlite":
            return "locked" in str(error.orig)
        state = getattr(error.orig, "sqlstate", None)
        if state is None:
            return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)
        return state in _PASSING or state.startswith("08")

    @contextmanager
    def _explained(self, verb: str) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, StoreError, OSError, ImportError) as error:
            reason = _reason(error)
            message = f"summary.store: {self.shown} can't be {verb}: {reason}; {_next_step(reason)}"
            raise StoreError(message) from error


def _with_driver(url: sa.URL) -> sa.URL:
    return url.set(drivername="postgresql+psycopg") if url.drivername in ("postgresql", "postgres") else url


def _make_engine(url: sa.URL) -> sa.Engine:
    backend = url.get_backend_name()
    if backend == "postgresql":
        # Lost connections are found before they are used; a restart costs no failed statement then.
        return sa.create_engine(url, pool_pre_ping=True)
    if backend != "sqlite":
        message = f"{backend} is no database that the store knows: it works on SQLite and PostgreSQL"
        raise StoreError(message)
    if url.database in (None, "", ":memory:"):
        options: dict[str, Any] = {"check_same_thread": False}
        engine = sa.create_engine(url, poolclass=sa.StaticPool, connect_args=options)
    else:
        if not str(url.database).startswith("file:"):
            Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(url, connect_args={"timeout": _BUSY_TIMEOUT_S})
    _begin_explicitly(engine)
    return engine


def _begin_explicitly(engine: sa.Engine) -> None:
    """Let SQLite's transactions begin where SQLAlchemy's do, and writers take their lock at once."""

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        # Write-ahead logging lets one process write while others read; FULL survives a power cut.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        # What is forgotten is overwritten, not just left out of the index.
        connection.execute("PRAGMA secure_delete=ON")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        # A reader that becomes a writer fails at once when another one wrote in between.
        options = connection.get_execution_options()
        if options.get("isolation_level") != "AUTOCOMMIT":
            connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get(_WRITES) else "BEGIN")


def _starting_time(error: DBAPIError) -> float:
    """Seconds to wait at least: a server that says that it is starting is there, also for the first time."""
    return _BUSY_TIMEOUT_S if getattr(error.orig, "sqlstate", None) in _STARTING else 0.0


def _reason(error: BaseException) -> str:
    return " ".join(str(getattr(error, "orig", None) or error).split())


def _next_step(reason: str) -> str:
    if "psycopg" in reason and "module" in reason:
        return "PostgreSQL needs its driver: pip install 'trsr[postgres]'"
    if "readonly" in reason or "read-only" in reason:
        return "answers can't be kept there, so none is paid for; let this user write to it, or give another"
    if "is full" in reason or "No space" in reason:
        return "make room on that disk and run again; answers that were stored before are safe"
    if "format" in reason:
        return "nothing was changed"
    return (
        "give a URL such as sqlite:///answers.db in a folder that may be written to, or "
        "postgresql://user@host/database; move a damaged file away"
    )
