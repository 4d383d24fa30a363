"""The store of model answers: every answer that was paid for, kept once, for good."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from trsr.artifacts import hash_value
from trsr.config.summary import Sampling
from trsr.errors import StoreError
from trsr.models.generation import Chat, Completion

_BUSY_TIMEOUT_S: Final = 60.0
_KEYS_A_QUERY: Final = 500  # databases cap the number of values in one statement

_METADATA: Final = sa.MetaData()
_ANSWERS: Final = sa.Table(
    "answers",
    _METADATA,
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


@dataclass(frozen=True, slots=True)
class Question:
    """All that decides an answer, and the template that worded it.

    Parameters
    ----------
    model
        Identity of the generator.
    sampling
        How the answer is drawn.
    chat
        The rendered prompt.
    template
        Names and versions of the templates; kept for the record, no part of the key,
        so that a comment mended in a template costs no new calls.

    Examples
    --------
    >>> question = Question("tiny@1", Sampling(), Chat("Hello"), "describe 1")
    >>> question.key == Question("tiny@1", Sampling(), Chat("Hello"), "describe 2").key
    True
    >>> question.key == Question("tiny@2", Sampling(), Chat("Hello"), "describe 1").key
    False
    """

    model: str
    sampling: Sampling
    chat: Chat
    template: str = ""

    @property
    def key(self) -> str:
        """SHA-256 of model, sampling and rendered prompt."""
        sampling = self.sampling.model_dump(mode="json")
        return hash_value([self.model, sampling, self.chat.system, self.chat.user])


class Store:
    """Keeps answers by the key of their question.

    An answer counts once `put` has returned: it is committed then, and a killed
    process can't lose it. Several processes may share a store; the first answer to
    a question stays.

    Parameters
    ----------
    url
        SQLAlchemy URL, such as ``sqlite:///answers.db``; the file and its folder are
        made when absent.

    Raises
    ------
    StoreError
        When the URL can't be opened, or what lies there is no store.

    Examples
    --------
    >>> with Store("sqlite://") as store:
    ...     question = Question("tiny@1", Sampling(), Chat("Hello"))
    ...     store.put(question, Completion("Hi.", 1, 2, "stop"))
    ...     store.get_many([question.key])[question.key].text
    'Hi.'
    """

    def __init__(self, url: str) -> None:
        self._shown = url
        with self._explained("opened"):
            parsed = sa.make_url(url)
            self._shown = parsed.render_as_string(hide_password=True)
            self._engine = _make_engine(parsed)
            _make_table(self._engine)
            with self._engine.connect() as connection:  # an older or foreign table shows now, not later
                connection.execute(sa.select(_ANSWERS).limit(1)).all()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database's connections."""
        self._engine.dispose()

    def get_many(self, keys: Sequence[str]) -> dict[str, Completion]:
        """Return the answers that are there, by key.

        Raises
        ------
        StoreError
            When the store can't be read.
        """
        found: dict[str, Completion] = {}
        distinct = list(dict.fromkeys(keys))
        with self._explained("read"), self._engine.connect() as connection:
            for start in range(0, len(distinct), _KEYS_A_QUERY):
                chunk = distinct[start : start + _KEYS_A_QUERY]
                for row in connection.execute(sa.select(_ANSWERS).where(_ANSWERS.c.key.in_(chunk))):
                    found[row.key] = Completion(
                        row.answer, row.prompt_tokens, row.completion_tokens, row.finish_reason
                    )
        return found

    def put(self, question: Question, completion: Completion) -> None:
        """Commit an answer; when the question has one already, that one stays.

        Raises
        ------
        StoreError
            When the answer can't be written.
        """
        row = _row(question, completion)
        with self._explained("written"):
            try:
                with self._engine.begin() as connection:
                    connection.execute(sa.insert(_ANSWERS).values(row))
            except IntegrityError:
                if question.key not in self.get_many([question.key]):
                    raise

    @contextmanager
    def _explained(self, verb: str) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, OSError, ImportError) as error:
            reason = getattr(error, "orig", None) or error
            message = (
                f"summary.store: {self._shown} can't be {verb}: {reason}; give a URL such as "
                "sqlite:///answers.db in a folder that may be written to, or move a damaged file away"
            )
            raise StoreError(message) from error


def _make_engine(url: sa.URL) -> sa.Engine:
    if url.get_backend_name() != "sqlite":
        return sa.create_engine(url, pool_pre_ping=True)
    if url.database in (None, "", ":memory:"):
        return sa.create_engine(url)
    if not str(url.database).startswith("file:"):
        Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, connect_args={"timeout": _BUSY_TIMEOUT_S})

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: Any) -> None:
        # Write-ahead logging lets one process write while others read; FULL survives a power cut.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    return engine


def _make_table(engine: sa.Engine) -> None:
    try:
        _METADATA.create_all(engine)
    except SQLAlchemyError:
        # Another process may have made the table between the look and the making; then it is there now.
        if not sa.inspect(engine).has_table(_ANSWERS.name):
            raise


def _row(question: Question, completion: Completion) -> Mapping[str, Any]:
    return {
        "key": question.key,
        "model": question.model,
        "sampling": question.sampling.model_dump(mode="json"),
        "template": question.template,
        "system_prompt": question.chat.system,
        "user_prompt": question.chat.user,
        "answer": completion.text,
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "finish_reason": completion.finish_reason,
        "created_at": datetime.now(UTC),
    }
