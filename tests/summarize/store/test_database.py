from __future__ import annotations

import os
import sqlite3
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa
from store_process import ANSWER, ask, paid_by, read_and_claim_as_nobody, start_payers

from forks import Forked
from postgres_server import PostgresServer
from trsr.errors import StoreError
from trsr.summarize.store import Store
from trsr.summarize.store.admin import measure


def url(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.mark.parametrize("kill", [False, True], ids=["shut down", "killed"])
def test_postgresql_restarted_in_the_middle_of_a_run_costs_nothing(
    postgres: PostgresServer, kill: bool
) -> None:
    target = postgres.make_database()
    payers = start_payers(2, target, 60, 0.03, 30.0)
    with Store(target) as store:
        for answers in (10, 30):
            # Which of the two is first at work is the machine's business.
            while measure(store).usage.calls < answers:
                assert None in [payer.poll() for payer in payers]
                time.sleep(0.01)
            postgres.stop(kill=kill)
            time.sleep(0.3)  # away while both want it
            postgres.start()
    paid = [number for payer in payers for number in paid_by(payer)]
    assert [payer.poll() for payer in payers] == [0, 0]
    assert Counter(paid) == Counter(range(60))
    with Store(target) as store:
        assert len(store.get_many([ask(number).key for number in range(60)])) == 60


def test_a_database_that_stays_away_is_told_after_the_patience(postgres: PostgresServer) -> None:
    with Store(postgres.make_database(), patience_s=0.5) as store:
        store.put(ask(0), ANSWER)
        postgres.stop()
        try:
            began = time.monotonic()
            with pytest.raises(StoreError, match=r"can't be read: .*refused"):
                store.get_many([ask(0).key])
            assert time.monotonic() - began >= 0.5
        finally:
            postgres.start()
        assert store.get_many([ask(0).key]) == {ask(0).key: ANSWER}


def test_a_server_that_is_not_there_is_told_soon_and_without_the_password() -> None:
    with pytest.raises(
        StoreError, match=r"postgresql\+psycopg://me:\*\*\*@127\.0\.0\.1:1/db can't be opened"
    ) as told:
        Store("postgresql://me:secret@127.0.0.1:1/db")
    assert "secret" not in str(told.value)


def test_a_read_only_postgresql_can_be_read_and_says_so_before_anything_is_paid(
    postgres: PostgresServer,
) -> None:
    target = postgres.make_database()
    with Store(target) as store:
        store.put(ask(0), ANSWER)
    name = target.rpartition("/")[2]
    postgres.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on", "postgres")
    with Store(target) as store:
        assert store.get_many([ask(0).key]) == {ask(0).key: ANSWER}
        with pytest.raises(StoreError, match=r"can't be written: .*read-only.*none is paid for"):
            store.claim([ask(1).key])


def test_a_read_only_file_can_be_read_and_says_so_before_anything_is_paid(tmp_path: Path) -> None:
    path = tmp_path / "answers.db"
    with Store(url(path)) as store:
        store.put(ask(0), ANSWER)
    with Store(f"sqlite:///file:{path}?mode=ro&uri=true") as store:
        assert store.get_many([ask(0).key]) == {ask(0).key: ANSWER}
        with pytest.raises(StoreError, match=r"can't be written: .*readonly.*none is paid for"):
            store.claim([ask(1).key])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not write")
def test_a_file_of_somebody_else_can_be_read_and_says_so_before_anything_is_paid(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "answers.db"
        store = Store(url(path))
        store.put(ask(0), ANSWER)
        folder.chmod(0o755)
        for file in folder.iterdir():
            file.chmod(0o644)
        code, said = Forked(read_and_claim_as_nobody, url(path)).end()
        store.close()
    assert (code, said[:2]) == (0, "1\n"), said
    assert "can't be written: attempt to write a readonly database; answers can't be kept there" in said


def test_a_full_disk_is_told_and_what_was_stored_is_safe(tmp_path: Path) -> None:
    path = tmp_path / "answers.db"
    with Store(url(path)) as store:
        store.put(ask(0), ANSWER)

        @sa.event.listens_for(store.database.engine, "connect")
        def _no_more(connection: sqlite3.Connection, _: object) -> None:
            connection.execute("PRAGMA max_page_count = 1")  # SQLite raises it to what there is

        store.database.engine.dispose()
        with pytest.raises(StoreError, match=r"can't be written: .*full.*make room"):
            _fill(store)
        assert store.get_many([ask(0).key]) == {ask(0).key: ANSWER}


def _fill(store: Store) -> None:
    for number in range(1, 200):
        store.put(ask(number), ANSWER)


def test_a_writer_waits_for_another_one(tmp_path: Path) -> None:
    with Store(url(tmp_path / "answers.db")) as store:
        other = sqlite3.connect(tmp_path / "answers.db", isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        threading.Timer(0.5, lambda: other.execute("COMMIT")).start()
        store.put(ask(0), ANSWER)
        other.close()


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "answers.db"
    path.write_bytes(b"this is not a database, it is a text" * 100)
    with pytest.raises(StoreError, match=r"answers\.db can't be opened: .*move a damaged file away"):
        Store(url(path))


def test_a_database_of_another_form_is_named(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "answers.db")
    connection.execute("CREATE TABLE answers (key TEXT)")
    connection.close()
    with pytest.raises(StoreError, match=r"can't be opened: no such column"):
        Store(url(tmp_path / "answers.db"))


def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/answers\.db can't be opened"):
        Store(url(tmp_path / "file" / "answers.db"))


@pytest.mark.parametrize("wrong", ["answers.db", "nodatabase://x", "", "sqlite:////", "mysql://x/y"])
def test_a_url_that_can_not_be_opened_is_named(wrong: str) -> None:
    with pytest.raises(StoreError, match=r"summary\.store: .*can't be opened.*sqlite:///answers\.db"):
        Store(wrong)


def test_a_database_that_is_damaged_later_is_named(tmp_path: Path) -> None:
    path = tmp_path / "answers.db"
    with Store(url(path)) as store:
        store.put(ask(0), ANSWER)
        with sqlite3.connect(path) as other:
            other.execute("DROP TABLE answers")
        other.close()
        with pytest.raises(StoreError, match="can't be read"):
            store.get_many([ask(0).key])
        with pytest.raises(StoreError, match="can't be written"):
            store.put(ask(0), ANSWER)
