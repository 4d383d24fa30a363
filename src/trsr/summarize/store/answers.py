"""Answers in and out, and the claims on those that are under way."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final

import sqlalchemy as sa

from trsr.llm.generator import Completion
from trsr.summarize.store.database import ANSWER_USERS, ANSWERS, CLAIMS, Database, Question
from trsr.summarize.store.leases import KEYS_A_STATEMENT, Claims, insert_new

_POLLS_A_LEASE: Final = 60


class Store:
    """Keeps answers by the key of their question.

    An answer counts once `put` has returned: it is committed then, and a killed
    process can't lose it. Several processes, on one machine or many, may share a
    store; the first answer to a question stays, and with `claim` no two of them pay
    for the same one. Threads may share a store.

    Parameters
    ----------
    url
        SQLAlchemy URL: ``sqlite:///answers.db`` (the file and its folder are made when
        absent), or ``postgresql://user:password@host/database`` for several machines.
    lease_s
        Seconds after which the claims of a process that shows no sign of life are
        free. Processes of this machine that have ended are known at once.
    patience_s
        Seconds for which a database that goes away, such as a server that is
        restarted, is waited for.

    Attributes
    ----------
    poll_s
        Seconds to wait before looking again for what others have claimed.

    Raises
    ------
    StoreError
        When the URL can't be opened, or what lies there is no store.

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
        """Return the answers that are there, by key.

        Raises
        ------
        StoreError
            When the store can't be read.
        """
        distinct = list(dict.fromkeys(keys))
        return self.database.run("read", lambda connection: _read(connection, distinct)) if distinct else {}

    def claim(self, keys: Collection[str]) -> set[str]:
        """Claim the questions that are neither answered nor claimed; return those that are now ours to pay.

        Of the others, the answer is there by now, or another process (or another thread
        of this one) is at it: wait `poll_s`, look with `get_many`, and claim again.
        A claim ends with `put` or `release`; that of a killed process goes to whoever
        claims next, at the latest after its lease.

        Raises
        ------
        StoreError
            When the store can't be written to: before anything is paid for.
        """
        return self._claims.take(set(keys)) if keys else set()

    def release(self, keys: Collection[str]) -> None:
        """Give claims back whose calls failed, or were never made."""
        self._claims.drop(keys)

    def put(self, question: Question, completion: Completion, users: Iterable[str] = ()) -> Completion:
        """Commit an answer, say whose text it holds, and end its claim.

        Parameters
        ----------
        question, completion
            What was asked and answered.
        users
            The users whose items or summaries stand in the prompt.

        Returns
        -------
        Completion
            The answer that stands: the one given, or that which was there first.

        Raises
        ------
        StoreError
            When the answer can't be written.
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
        """Say whose text stored answers hold, also of those who were answered from the store.

        Parameters
        ----------
        users
            Key of an answer to the users with that prompt.

        Raises
        ------
        StoreError
            When the store can't be written to.
        """
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
    """Return the tokens that the server told; 0 stands for none, unless an empty answer's prompt has some."""
    prompt, completion = row["prompt_tokens"] or None, row["completion_tokens"]
    return prompt, None if completion == 0 and (row["answer"] != "" or prompt is None) else completion


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
        "user_prompt": storable(question.chat.user),
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
