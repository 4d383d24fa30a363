from __future__ import annotations

import json

import pytest
import sqlalchemy as sa
from store_process import ANSWER, open_and_close, question

from forks import Forked
from trsr.artifacts import hash_value
from trsr.errors import StoreError
from trsr.summarize.store import Question, Store
from trsr.summarize.store.admin import measure
from trsr.summarize.store.database import Database

# The table as format 1 made it, on SQLite and on PostgreSQL.
FORMAT_1 = """CREATE TABLE answers (
    key VARCHAR(64) NOT NULL PRIMARY KEY, model TEXT NOT NULL, sampling JSON NOT NULL, template TEXT NOT NULL,
    system_prompt TEXT NOT NULL, user_prompt TEXT NOT NULL, answer TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, finish_reason TEXT NOT NULL,
    created_at {time} NOT NULL)"""


def old_key(asked: Question) -> str:
    sampling = asked.sampling.model_dump(mode="json")
    return hash_value([asked.model, sampling, asked.chat.system, asked.chat.user])


def make_format_1(url: str, questions: list[Question]) -> None:
    is_sqlite = url.startswith("sqlite")
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(sa.text(FORMAT_1.format(time="DATETIME" if is_sqlite else "TIMESTAMPTZ")))
        row = (
            "INSERT INTO answers VALUES (:key, :model, :sampling, :template, :system, :user, :answer, "
            "12, 5, 'stop', '2026-01-02 03:04:05.000006')"
        )
        for asked in questions:
            values = {
                "key": old_key(asked), "model": asked.model, "template": asked.template,
                "sampling": json.dumps(asked.sampling.model_dump(mode="json")),
                "system": asked.chat.system, "user": asked.chat.user, "answer": ANSWER.text,
            }  # fmt: skip
            connection.execute(sa.text(row), values)
    engine.dispose()


def test_what_format_1_paid_for_is_found_under_the_keys_of_format_2(store_url: str) -> None:
    questions = [question(f"Tea {number}?") for number in range(1200)]
    make_format_1(store_url, questions)
    with Store(store_url) as store:
        found = store.get_many([asked.key for asked in questions])
        assert found == dict.fromkeys([asked.key for asked in questions], ANSWER)
        assert store.get_many([old_key(asked) for asked in questions]) == {}
        stats = measure(store)
        assert (stats.usage.calls, stats.without_user) == (1200, 1200)
        store.put(question("new"), ANSWER, users=["u1"])
    with Store(store_url) as store:  # once is enough
        assert measure(store).usage.calls == 1201


def test_processes_that_open_an_old_store_at_once_bring_it_up_to_date_once(store_url: str) -> None:
    questions = [question(f"Tea {number}?") for number in range(300)]
    make_format_1(store_url, questions)
    openers = [Forked(open_and_close, store_url) for _ in range(3)]
    assert [opener.end() for opener in openers] == [(0, "")] * 3
    with Store(store_url) as store:
        assert len(store.get_many([asked.key for asked in questions])) == 300


def test_a_newer_format_is_left_alone(store_url: str) -> None:
    Store(store_url).close()
    database = Database(store_url, 0.0)
    database.run("written", lambda c: c.execute(sa.text("UPDATE store_format SET format = 3")), writes=True)
    database.close()
    with pytest.raises(
        StoreError, match=r"can't be opened: it has format 3, .*newer version.*nothing was changed"
    ):
        Store(store_url)
