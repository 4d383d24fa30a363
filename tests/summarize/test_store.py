from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from trsr.config.summary import Sampling
from trsr.errors import StoreError
from trsr.models.generation import Chat, Completion
from trsr.summarize.store import Question, Store

# Writes answers first..last to the store, and says each number once it is committed.
WRITER = """
import sys
from trsr.config.summary import Sampling
from trsr.models.generation import Chat, Completion
from trsr.summarize.store import Question, Store

url, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
store = Store(url)
for number in range(first, last):
    store.put(Question("m", Sampling(), Chat(str(number))), Completion(f"{number}", 1, 1, "stop"))
    print(number, flush=True)
"""


def question(user: str = "Tea?") -> Question:
    return Question("tiny@1", Sampling(), Chat(user, system="Be brief."), "describe 1-abc")


def url(path: Path) -> str:
    return f"sqlite:///{path}"


ANSWER = Completion("Likes tea — 茶 👍🏽.", 12, 5, "stop")


def test_an_answer_comes_back_whole_also_after_reopening(tmp_path: Path) -> None:
    with Store(url(tmp_path / "new" / "folder" / "answers.db")) as store:
        assert store.get_many([question().key]) == {}
        store.put(question(), ANSWER)
        assert store.get_many([question().key]) == {question().key: ANSWER}
    with Store(url(tmp_path / "new" / "folder" / "answers.db")) as store:
        assert store.get_many([question().key, "unknown"]) == {question().key: ANSWER}


def test_the_first_answer_to_a_question_stays(tmp_path: Path) -> None:
    with Store(url(tmp_path / "answers.db")) as store:
        store.put(question(), ANSWER)
        store.put(question(), Completion("Another.", 1, 1, "length"))
        assert store.get_many([question().key]) == {question().key: ANSWER}


def test_everything_that_decides_an_answer_is_in_the_key() -> None:
    questions = [
        question(),
        question("Tea? "),
        Question("tiny@2", Sampling(), question().chat),
        Question("tiny@1", Sampling(seed=1), question().chat),
        Question("tiny@1", Sampling(temperature=0.5), question().chat),
        Question("tiny@1", Sampling(top_p=0.5), question().chat),
        Question("tiny@1", Sampling(max_new_tokens=5), question().chat),
        Question("tiny@1", Sampling(), Chat("Tea?")),
        Question("tiny@1", Sampling(), Chat("Be brief.Tea?")),
    ]
    assert len({asked.key for asked in questions}) == len(questions)


def test_many_keys_are_read_in_one_call(tmp_path: Path) -> None:
    with Store(url(tmp_path / "answers.db")) as store:
        store.put(question(), ANSWER)
        keys = [f"{number:064d}" for number in range(2500)]
        assert store.get_many([*keys, question().key, question().key]) == {question().key: ANSWER}
        assert store.get_many([]) == {}


def test_the_row_keeps_what_was_asked_and_when(tmp_path: Path) -> None:
    before = datetime.now(UTC).replace(tzinfo=None)
    with Store(url(tmp_path / "answers.db")) as store:
        store.put(question(), ANSWER)
    with sqlite3.connect(tmp_path / "answers.db") as connection:
        connection.row_factory = sqlite3.Row
        row = dict(connection.execute("SELECT * FROM answers").fetchone())
    connection.close()
    assert row["model"] == "tiny@1"
    assert row["template"] == "describe 1-abc"
    assert (row["system_prompt"], row["user_prompt"]) == ("Be brief.", "Tea?")
    assert (row["prompt_tokens"], row["completion_tokens"], row["finish_reason"]) == (12, 5, "stop")
    assert '"temperature": 0.0' in row["sampling"]
    assert before <= datetime.fromisoformat(row["created_at"]) <= datetime.now(UTC).replace(tzinfo=None)


def test_a_killed_writer_loses_no_committed_answer(tmp_path: Path) -> None:
    target = url(tmp_path / "answers.db")
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, target, "0", "100000"], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    said = [int(writer.stdout.readline()) for _ in range(40)]
    os.kill(writer.pid, signal.SIGKILL)
    said += [int(line) for line in writer.stdout if line.endswith("\n")]
    writer.stdout.close()
    assert writer.wait() == -signal.SIGKILL
    keys = {Question("m", Sampling(), Chat(str(number))).key: str(number) for number in said}
    with Store(target) as store:
        found = store.get_many(list(keys))
        assert {key: found[key].text for key in keys} == keys
        store.put(question(), ANSWER)  # and it goes on


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    target = url(tmp_path / "answers.db")
    spans = [("0", "60"), ("30", "90"), ("0", "90")]
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, target, *span], stdout=subprocess.DEVNULL)
        for span in spans
    ]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    with Store(target) as store:
        found = store.get_many([Question("m", Sampling(), Chat(str(number))).key for number in range(90)])
        assert sorted(int(completion.text) for completion in found.values()) == list(range(90))


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


@pytest.mark.parametrize("wrong", ["answers.db", "nodatabase://x", "", "sqlite:////"])
def test_a_url_that_can_not_be_opened_is_named(wrong: str) -> None:
    with pytest.raises(StoreError, match=r"summary\.store: .*can't be opened.*sqlite:///answers\.db"):
        Store(wrong)


def test_a_database_that_is_damaged_later_is_named(tmp_path: Path) -> None:
    path = tmp_path / "answers.db"
    with Store(url(path)) as store:
        store.put(question(), ANSWER)
        with sqlite3.connect(path) as other:
            other.execute("DROP TABLE answers")
        other.close()
        with pytest.raises(StoreError, match="can't be read"):
            store.get_many([question().key])
        with pytest.raises(StoreError, match="can't be written"):
            store.put(question(), ANSWER)
