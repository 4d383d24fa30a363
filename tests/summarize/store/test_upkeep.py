from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from trsr.config.summary import Sampling
from trsr.llm.generator import Chat, Completion
from trsr.records import Usage
from trsr.summarize.store import Question, Store
from trsr.summarize.store.admin import Selection, StoredModel, count, forget, measure, prune, read_all
from trsr.summarize.store.database import ANSWER_USERS, ANSWERS


def fill(store: Store) -> None:
    """Three users; the second and the third share an answer, one answer has no user on record."""
    rows = [
        ("a@1", "describe 1", "tea for u1", ["u1"]),
        ("a@1", "describe 1", "tea for two", ["u2", "u3"]),
        ("a@1", "describe 2", "coffee for u2", ["u2"]),
        ("b@1", "describe 2", "somebody's cocoa", []),
    ]
    for model, template, prompt, users in rows:
        asked = Question(model, Sampling(), Chat(prompt), template)
        store.put(asked, Completion(f"likes {prompt}", 10, 3, "stop"), users=users)


def prompts(store: Store) -> list[str]:
    return sorted(row["user_prompt"] for row in read_all(store))


def test_a_store_is_measured(store_url: str) -> None:
    with Store(store_url) as store:
        assert measure(store).usage == Usage()
        fill(store)
        store.claim(["k" * 64])
        stats = measure(store)
    assert stats.models == (StoredModel("a@1", Usage(3, 0, 30, 9)), StoredModel("b@1", Usage(1, 0, 10, 3)))
    assert (stats.users, stats.without_user, stats.under_way) == (3, 1, 1)
    assert stats.bytes > 10_000


def test_all_rows_are_read_in_pages_with_their_users(store_url: str) -> None:
    with Store(store_url) as store:
        assert list(read_all(store)) == []
        for number in range(2100):
            if number % 700 == 0:
                fill(store)

        def write(connection: sa.Connection) -> None:
            row = dict(connection.execute(sa.select(ANSWERS)).first()._mapping)  # type: ignore[union-attr]
            rows = [row | {"key": f"{number:064d}"} for number in range(2100)]
            connection.execute(sa.insert(ANSWERS), rows)
            ties = [{"key": row["key"], "user_id": f"u{place}"} for place, row in enumerate(rows)]
            connection.execute(sa.insert(ANSWER_USERS), ties)

        store.database.run("written", write, writes=True)
        rows = {row["key"]: row["users"] for row in read_all(store)}
    assert len(rows) == 2104
    assert all(rows[f"{number:064d}"] == [f"u{number}"] for number in range(2100))


def test_forgetting_removes_every_answer_with_the_users_text_and_leaves_the_others(store_url: str) -> None:
    with Store(store_url) as store:
        fill(store)
        assert forget(store, "u2") == Usage(2, 0, 20, 6)
        assert prompts(store) == ["somebody's cocoa", "tea for u1"]
        assert forget(store, "u2") == Usage()
        assert forget(store, "nobody") == Usage()
        assert measure(store).users == 1  # the third user's only answer was shared, and is gone


def test_what_is_forgotten_is_gone_from_the_files(tmp_path: Path) -> None:
    path = tmp_path / "answers.db"
    with Store(f"sqlite:///{path}") as store:
        fill(store)
        forget(store, "u2")
        raw = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"tea for u1" in raw
    assert b"coffee" not in raw
    assert b"tea for two" not in raw


@pytest.mark.parametrize(
    ("selection", "left"),
    [
        (Selection(), 4),
        (Selection(model="b@1"), 3),
        (Selection(model="c@1"), 4),
        (Selection(current_templates=["describe 2"]), 2),
        (Selection(current_templates=[]), 0),
        (Selection(model="a@1", current_templates=["describe 2"]), 2),
        (Selection(without_user=True), 3),
        (Selection(older_than_days=1), 4),
        (Selection(older_than_days=0), 0),
    ],
)
def test_pruning_deletes_what_was_counted_and_no_more(
    store_url: str, selection: Selection, left: int
) -> None:
    with Store(store_url) as store:
        fill(store)
        expected = count(store, selection)
        assert prune(store, selection) == expected
        assert expected.calls == 4 - left
        assert len(prompts(store)) == left


def test_age_is_counted_from_when_an_answer_was_stored(store_url: str) -> None:
    with Store(store_url) as store:
        fill(store)
        old = sa.update(ANSWERS).where(ANSWERS.c.model == "b@1")
        moment = datetime.now(UTC) - timedelta(days=10)
        store.database.run("written", lambda c: c.execute(old.values(created_at=moment)), writes=True)
        assert prune(store, Selection(older_than_days=9)).calls == 1
        assert len(prompts(store)) == 3
