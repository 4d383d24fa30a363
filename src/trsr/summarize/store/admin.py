"""Looking after a store: what is in it, getting it out, and deleting from it for good."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import sqlalchemy as sa

from trsr.llm.generator import SCORED
from trsr.records import Usage
from trsr.summarize.store.answers import KEYS_A_STATEMENT, Store, storable, tokens_told
from trsr.summarize.store.database import ANSWER_USERS, ANSWERS, CLAIMS, METADATA

_ROWS_A_READ: Final = 1000


@dataclass(frozen=True, slots=True)
class StoredModel:
    """What one model, by its identity, has answered: answers counted as calls, and their tokens."""

    model: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What lies in a store, by model, most answers first; `under_way` are claims on unanswered calls.

    Of the answers `without_user` it isn't known whose text they hold: those of format 1, and those for
    histories that were given without a user.
    """

    models: tuple[StoredModel, ...]
    users: int
    without_user: int
    under_way: int
    bytes: int

    @property
    def usage(self) -> Usage:
        """Answers as calls, and their tokens, over all models."""
        return sum((model.usage for model in self.models), Usage())


@dataclass(frozen=True, slots=True)
class Selection:
    """Answers to delete: all conditions that are given must hold.

    `current_templates` are the versions in use: answers worded by others are meant.
    """

    older_than_days: float | None = None
    model: str | None = None
    current_templates: Collection[str] | None = None
    without_user: bool = False

    def condition(self) -> sa.ColumnElement[bool]:
        """Make the condition on the table of answers; nothing given selects nothing."""
        parts: list[sa.ColumnElement[bool]] = []
        if self.older_than_days is not None:
            parts.append(ANSWERS.c.created_at < datetime.now(UTC) - timedelta(days=self.older_than_days))
        if self.model is not None:
            parts.append(ANSWERS.c.model == self.model)
        if self.current_templates is not None:
            parts.append(ANSWERS.c.template.not_in(list(self.current_templates)))
        if self.without_user:
            parts.append(_has_no_user())
        return sa.and_(*parts) if parts else sa.false()


def measure(store: Store) -> StoreStats:
    """Count what is in the store; raises StoreError when it can't be read."""

    def read(connection: sa.Connection) -> StoreStats:
        columns = ANSWERS.c
        rows = connection.execute(
            sa.select(
                columns.model,
                sa.func.count().label("answers"),
                sa.func.sum(columns.prompt_tokens).label("prompt_tokens"),
                sa.func.sum(columns.completion_tokens).label("completion_tokens"),
                _unreported().label("unreported"),
            )
            .group_by(columns.model)
            .order_by(sa.desc("answers"), columns.model)
        )
        models = tuple(
            StoredModel(
                row.model,
                Usage(
                    row.answers, 0, int(row.prompt_tokens), int(row.completion_tokens), int(row.unreported)
                ),
            )
            for row in rows
        )
        return StoreStats(
            models=models,
            users=_count(connection, sa.select(ANSWER_USERS.c.user_id).distinct()),
            without_user=_count(connection, sa.select(columns.key).where(_has_no_user())),
            under_way=_count(connection, sa.select(CLAIMS.c.key)),
            bytes=_size(connection),
        )

    return store.database.run("read", read)


def read_all(store: Store) -> Iterator[dict[str, Any]]:
    """Yield every answer as a row of plain values, with the users whose text it holds, in the keys' order."""
    after = ""
    while rows := store.database.run("read", partial(_page, after=after)):
        yield from rows
        after = rows[-1]["key"]


def count(store: Store, selection: Selection) -> Usage:
    """Count the answers that `prune` would delete: as calls, and their tokens."""
    return store.database.run("read", lambda connection: _usage(connection, selection.condition()))


def prune(store: Store, selection: Selection) -> Usage:
    """Delete the selected answers; return how many they were (as calls), and their tokens."""
    return _delete(store, selection.condition())


def forget(store: Store, user_id: str) -> Usage:
    """Delete every answer that holds a user's text, and every mention of the user.

    An answer that users share, because their prompts were equal, holds this user's text too and goes with the
    rest. Returns the answers that were deleted, as calls, and their tokens.
    """
    theirs = sa.select(ANSWER_USERS.c.key).where(ANSWER_USERS.c.user_id == storable(user_id))
    return _delete(store, ANSWERS.c.key.in_(theirs), user_id)


def _delete(store: Store, condition: sa.ColumnElement[bool], user_id: str | None = None) -> Usage:
    def write(connection: sa.Connection) -> Usage:
        found = _usage(connection, condition)
        keys = list(connection.execute(sa.select(ANSWERS.c.key).where(condition)).scalars())
        for start in range(0, len(keys), KEYS_A_STATEMENT):
            chunk = keys[start : start + KEYS_A_STATEMENT]
            connection.execute(sa.delete(ANSWERS).where(ANSWERS.c.key.in_(chunk)))
            connection.execute(sa.delete(ANSWER_USERS).where(ANSWER_USERS.c.key.in_(chunk)))
        if user_id is not None:
            connection.execute(sa.delete(ANSWER_USERS).where(ANSWER_USERS.c.user_id == storable(user_id)))
        return found

    deleted = store.database.run("written", write, writes=True)
    store.database.clean()
    return deleted


def _has_no_user() -> sa.ColumnElement[bool]:
    """Answers that may hold a user's text and don't say whose; a caption is of an item's image alone."""
    of_images = ANSWERS.c.template.like("caption %")
    return ~of_images & ~sa.exists().where(ANSWER_USERS.c.key == ANSWERS.c.key)


def _usage(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> Usage:
    totals = [
        sa.func.coalesce(sa.func.sum(c), 0) for c in (ANSWERS.c.prompt_tokens, ANSWERS.c.completion_tokens)
    ]
    answers, prompt, completion, unreported = connection.execute(
        sa.select(sa.func.count(), *totals, sa.func.coalesce(_unreported(), 0)).where(condition)
    ).one()
    return Usage(int(answers), 0, int(prompt), int(completion), int(unreported))


def _unreported() -> sa.ColumnElement[int]:
    """Count the answers of which the server didn't tell all tokens; see `tokens_told`."""
    columns = ANSWERS.c
    written = (columns.answer != "") & (columns.finish_reason != SCORED)
    silent = (columns.prompt_tokens == 0) | ((columns.completion_tokens == 0) & written)
    return sa.func.sum(sa.case((silent, 1), else_=0))


def _count(connection: sa.Connection, rows: sa.Select[Any]) -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(rows.subquery())).scalar_one())


def _size(connection: sa.Connection) -> int:
    if connection.dialect.name == "sqlite":
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        return int(pages) * int(connection.exec_driver_sql("PRAGMA page_size").scalar_one())
    sizes = [sa.func.pg_total_relation_size(name) for name in METADATA.tables]
    return sum(int(connection.execute(sa.select(size)).scalar_one()) for size in sizes)


def _page(connection: sa.Connection, after: str) -> list[dict[str, Any]]:
    page = sa.select(ANSWERS).where(ANSWERS.c.key > after).order_by(ANSWERS.c.key).limit(_ROWS_A_READ)
    rows = [dict(row._mapping) for row in connection.execute(page)]
    users: dict[str, list[str]] = {row["key"]: [] for row in rows}
    if rows:
        between = ANSWER_USERS.c.key.between(rows[0]["key"], rows[-1]["key"])
        for tie in connection.execute(
            sa.select(ANSWER_USERS).where(between).order_by(ANSWER_USERS.c.user_id)
        ):
            if tie.key in users:
                users[tie.key].append(tie.user_id)
    for row in rows:
        moment: datetime = row["created_at"]
        row["prompt_tokens"], row["completion_tokens"] = tokens_told(row)
        row["created_at"] = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC).isoformat()
        row["users"] = users[row["key"]]
    return rows
