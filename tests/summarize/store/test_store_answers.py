from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from store_process import ANSWER, ask, question, write

from forks import Forked
from trsr.config.summary import Sampling
from trsr.llm.generator import Chat, Completion
from trsr.summarize.store import Question, Store
from trsr.summarize.store.admin import read_all


def test_an_answer_comes_back_whole_also_after_reopening(store_url: str) -> None:
    with Store(store_url) as store:
        assert store.get_many([question().key]) == {}
        assert store.put(question(), ANSWER) == ANSWER
        assert store.get_many([question().key]) == {question().key: ANSWER}
    with Store(store_url) as store:
        assert store.get_many([question().key, "unknown"]) == {question().key: ANSWER}


def test_a_new_folder_is_made(tmp_path: Path) -> None:
    with Store(f"sqlite:///{tmp_path / 'new' / 'folder' / 'answers.db'}") as store:
        store.put(question(), ANSWER)
    assert (tmp_path / "new" / "folder" / "answers.db").exists()


def test_the_first_answer_to_a_question_stays_and_is_the_one_that_counts(store_url: str) -> None:
    with Store(store_url) as store:
        store.put(question(), ANSWER)
        assert store.put(question(), Completion("Another.", 1, 1, "length")) == ANSWER
        assert store.get_many([question().key]) == {question().key: ANSWER}


def test_everything_that_decides_an_answer_is_in_the_key() -> None:
    questions = [
        question(),
        question("Tea? "),
        Question("tiny@2", Sampling(), question().chat, "describe 1-abc"),
        Question("tiny@1", Sampling(seed=1), question().chat, "describe 1-abc"),
        Question("tiny@1", Sampling(temperature=0.5), question().chat, "describe 1-abc"),
        Question("tiny@1", Sampling(top_p=0.5), question().chat, "describe 1-abc"),
        Question("tiny@1", Sampling(max_new_tokens=5), question().chat, "describe 1-abc"),
        Question("tiny@1", Sampling(), Chat("Tea?"), "describe 1-abc"),
        Question("tiny@1", Sampling(), question().chat, "describe 2-abc"),
    ]
    assert len({question.key for question in questions}) == len(questions)
    assert question().key == question().key


def test_many_keys_are_read_and_claimed_in_one_call(store_url: str) -> None:
    with Store(store_url) as store:
        store.put(question(), ANSWER)
        keys = [f"{number:064d}" for number in range(2500)]
        assert store.get_many([*keys, question().key, question().key]) == {question().key: ANSWER}
        assert store.get_many([]) == {}
        assert store.claim([*keys, question().key]) == set(keys)
        store.release(keys)
        assert store.claim(keys) == set(keys)


def test_the_row_keeps_what_was_asked_of_whom_and_when(store_url: str) -> None:
    before = datetime.now(UTC)
    with Store(store_url) as store:
        store.put(question(), ANSWER, users=["u2", "u1"])
        [row] = read_all(store)
    assert row["model"] == "tiny@1"
    assert row["template"] == "describe 1-abc"
    assert (row["system_prompt"], row["user_prompt"]) == ("Be brief.", "Tea?")
    assert (row["prompt_tokens"], row["completion_tokens"], row["finish_reason"]) == (12, 5, "stop")
    assert row["sampling"]["temperature"] == 0.0
    assert row["users"] == ["u1", "u2"]
    assert before <= datetime.fromisoformat(row["created_at"]) <= datetime.now(UTC)


def test_text_that_no_database_takes_is_stored_even_so(store_url: str) -> None:
    odd = "null \x00 and half a character \ud800"
    with Store(store_url) as store:
        store.put(question(), Completion(odd, 1, 1, "stop"), users=[odd])
        assert store.get_many([question().key])[question().key].text == "null \ufffd and half a character ?"


def test_reused_answers_are_tied_to_their_users_too(store_url: str) -> None:
    with Store(store_url) as store:
        store.put(question(), ANSWER, users=["u1"])
        store.tie({question().key: ["u1", "u3"]})
        store.tie({question().key: ["u3"]})
        store.tie({})
        assert next(read_all(store))["users"] == ["u1", "u3"]


def test_a_killed_writer_loses_no_committed_answer(store_url: str) -> None:
    writer = Forked(write, store_url, 0, 100000)
    said = [int(writer.stdout.readline()) for _ in range(40)]
    writer.kill()
    code, rest = writer.end()
    said += [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    assert code == -signal.SIGKILL
    keys = {ask(number).key: str(number) for number in said}
    with Store(store_url) as store:
        found = store.get_many(list(keys))
        assert {key: found[key].text for key in keys} == keys
        store.put(question(), ANSWER)  # and it goes on


def test_processes_that_write_the_same_answers_at_once_do_no_harm(store_url: str) -> None:
    writers = [Forked(write, store_url, *span) for span in ((0, 60), (30, 90), (0, 90))]
    assert [writer.end()[0] for writer in writers] == [0, 0, 0]
    with Store(store_url) as store:
        found = store.get_many([ask(number).key for number in range(90)])
        assert sorted(int(completion.text) for completion in found.values()) == list(range(90))


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_store_in_memory_serves_threads(url: str) -> None:
    with Store(url) as store, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: store.put(ask(number), ANSWER), range(50)))
        assert len(store.get_many([ask(number).key for number in range(50)])) == 50
