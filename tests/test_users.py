"""Users in a file: a row each, written as a whole or not at all, and gone when they are forgotten."""

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from trsr.artifacts import RunFolder, write_parquet
from trsr.errors import ArtifactError, DataError
from trsr.records import CANDIDATES, HISTORY, TIMES, USER, UserSummary
from trsr.summarize.writer import to_frame
from trsr.users import SERVED, UserRow, Users, open_users, update_users

ADA = UserRow(
    "ada", ["a", "b"], ["c"], "Likes Żubrówka.", "", [1, None], ["t"], ["One.", "Two."], "{1}", True
)


def made(folder: RunFolder, *users: str, candidates: str = "c") -> RunFolder:
    """Write the tables of a run with these users, and say so in its manifest."""
    one: list[list[str]] = [[f"{user}-item"] for user in users]
    histories = pl.DataFrame({USER: users, HISTORY: one, TIMES: [[None]] * len(users)})
    tables = {
        folder.histories: histories.cast({TIMES: pl.List(pl.Int64)}),
        folder.candidates: pl.DataFrame({USER: users, CANDIDATES: [[candidates]] * len(users)}),
        folder.summaries: to_frame([UserSummary.empty(user) for user in users]),
    }
    for path, table in tables.items():
        write_parquet(table, path)
    folder.mark_complete("summarize", "", list(tables), 0)
    return folder


def test_a_row_comes_back_as_it_was(tmp_path: Path) -> None:
    with Users(tmp_path / "users.sqlite", make=True) as users:
        users.put([ADA, UserRow("bob")])
        assert users.get("ada") == ADA
        assert users.get("bob") == UserRow("bob", [], None, None, "", [], [], [])
        assert users.get("ada", SERVED) == UserRow("ada", ["a", "b"], ["c"], "Likes Żubrówka.")
        assert users.find(["eve", "bob"]).keys() == {"bob"}
        with pytest.raises(DataError, match="no user 'eve'"):
            users.get("eve")


def test_a_write_that_is_interrupted_leaves_what_was_there(tmp_path: Path) -> None:
    def interrupted() -> Iterator[UserRow]:
        yield UserRow("ada", ["new"])
        yield UserRow("new")
        raise KeyboardInterrupt

    path = tmp_path / "users.sqlite"
    with Users(path, make=True) as users:
        users.put([ADA])
        with pytest.raises(KeyboardInterrupt):
            users.put(interrupted())
    with Users(path) as users:
        assert users.find(["ada", "new"]) == {"ada": ADA}


def test_what_others_wrote_meanwhile_is_not_written_over(tmp_path: Path) -> None:
    with Users(tmp_path / "users.sqlite", make=True) as users, Users(tmp_path / "users.sqlite") as other:
        users.put([ADA])
        before = users.find(["ada"])
        other.put([replace(ADA, history=["a", "b", "c"])], before)
        with pytest.raises(
            ArtifactError, match="others have appended to these users meanwhile; append again"
        ):
            users.put([replace(ADA, history=["a", "b", "d"])], before)
        assert users.get("ada").history == ["a", "b", "c"]


def test_new_tables_replace_the_rows_but_those_with_later_events(tmp_path: Path) -> None:
    folder = made(RunFolder(tmp_path), "ada", "bob", "eve")
    update_users(folder)
    with open_users(folder) as users:
        users.put([ADA])
        update_users(folder)  # the same tables
        assert users.get("ada") == ADA
    made(folder, "ada", "bob", candidates="d")
    with pytest.raises(ArtifactError, match="older than the run's tables: run `trsr summarize`"):
        open_users(folder)
    update_users(folder)
    with open_users(folder) as users:
        assert users.find(["ada", "bob", "eve"]).keys() == {"ada", "bob"}
        assert (users.get("ada").history, users.get("ada").candidates) == (["a", "b"], ["d"])
        assert (users.get("bob").history, users.get("bob").candidates) == (["bob-item"], ["d"])


def test_tables_that_cannot_be_read_leave_the_rows(tmp_path: Path) -> None:
    folder = made(RunFolder(tmp_path), "ada", "bob")
    update_users(folder)
    made(folder, "ada")
    folder.candidates.write_bytes(b"no table")
    with pytest.raises(ArtifactError, match=r"candidates\.parquet"):
        update_users(folder)
    with Users(folder.users) as users:
        assert users.find(["ada", "bob"]).keys() == {"ada", "bob"}


def test_the_bytes_of_a_forgotten_user_are_gone(tmp_path: Path) -> None:
    path = tmp_path / "users.sqlite"
    with Users(path, make=True) as users:
        users.put([ADA, *(UserRow(f"user {number}", ["a"], summary="x" * 500) for number in range(40))])
        assert "Likes Żubrówka.".encode() in path.read_bytes()
        assert users.forget("ada")
        assert not users.forget("ada")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert not {b"ada", "Likes Żubrówka.".encode()} & {
        text for text in (b"ada", "Likes Żubrówka.".encode()) if text in path.read_bytes()
    }


def test_what_is_no_store_is_told(tmp_path: Path) -> None:
    path = tmp_path / "users.sqlite"
    with pytest.raises(ArtifactError, match="is missing: run `trsr summarize`"):
        Users(path)
    path.write_text("no database" * 100)
    with pytest.raises(ArtifactError, match=r"users\.sqlite: can't be used as a store of users .* delete it"):
        Users(path)
    path.unlink()
    Users(path, make=True).close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE told SET value = '2' WHERE name = 'format'")
    connection.commit()
    connection.close()
    with pytest.raises(ArtifactError, match="format must be 1, got 2; update trsr"):
        Users(path)


def test_who_is_behind_and_what_was_edited_is_known_beside_the_row(tmp_path: Path) -> None:
    path = tmp_path / "users.sqlite"
    with Users(path, make=True) as users:
        users.put([replace(ADA, read=1), UserRow("bob", edited="Likes tea."), UserRow("eve")])
        assert users.behind() == ["ada"]
        assert (users.get("ada").unread, users.get("ada", SERVED).unread) == (1, 1)
        assert [users.get(name, SERVED).shown for name in ("ada", "bob")] == [ADA.summary, "Likes tea."]
        changed = users.change(["ada", "nobody"], lambda now: [replace(now["ada"], read=None)])
        assert changed == [ADA]
        assert users.get("ada") == ADA
        assert users.behind() == []
        users.change(["bob"], lambda now: [replace(now["bob"], edited=None)])
        assert users.get("bob").shown is None
        users.put([replace(ADA, read=0, edited="Loves xylophones.")])
        assert users.forget("ada")
        assert users.behind() == []
    assert b"xylophones" not in path.read_bytes()


def test_a_file_of_before_there_were_edits_is_read(tmp_path: Path) -> None:
    path = tmp_path / "users.sqlite"
    with Users(path, make=True) as users:
        users.put([ADA])
    with sqlite3.connect(path) as connection:
        connection.executescript("DROP TABLE behind; DROP TABLE edits")
    connection.close()
    with Users(path) as users:
        assert users.get("ada") == ADA
