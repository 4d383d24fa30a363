"""The tables of the store, the number of their format, and the way from an older one."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from trsr.config.summary import Sampling
from trsr.errors import StoreError
from trsr.models.generation import Chat
from trsr.summarize.store.question import Question

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
    """Return the format that lies there: 0 for an empty database.

    Raises
    ------
    StoreError
        When a newer version of this program has written it.
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
