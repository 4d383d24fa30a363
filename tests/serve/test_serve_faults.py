"""What is away or full while the service runs: ranking goes on with what there is, and says so."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from served import LATER, PATIENT, Served, served, written_by

from counting_server import CountingServer, counting_server
from trsr.artifacts import RunFolder
from trsr.config import Config
from trsr.summarize.store import Store
from trsr.summarize.store.admin import measure
from trsr.users import Users


@pytest.fixture
def run(small: tuple[Config, RunFolder], tmp_path: Path) -> Path:
    return Path(shutil.copytree(small[1].path, tmp_path / "run"))


@pytest.fixture
def writing(run: Path) -> Iterator[tuple[Served, CountingServer]]:
    """A service whose summaries a server writes."""
    with counting_server() as server:
        written_by(server.base_url, run)
        with served(run, replace(PATIENT, summary_s=0.2)) as service:
            yield service, server


def test_a_disk_that_is_full_takes_no_event_and_ranking_goes_on(run: Path) -> None:
    with served(run) as service:
        user, item = service.users[0], service.items[0]
        service.append((user, item, LATER))

        async def full(pages: int) -> None:
            users = service.engine._users(service.engine._store)
            users._connection.execute(f"PRAGMA max_page_count = {pages}")

        service.here(lambda: full(1))  # SQLite's own error, as of a disk
        events = {"events": [{"user": f"new{at}", "item": item} for at in range(2000)]}
        refused = service.post("/v1/events", events)
        assert refused.status_code == 503
        assert "full" in refused.json()["error"]["message"]
        assert service.rank(user=user)["items"]
        assert service.profile(user)["history"][-1]["item"] == item
        service.here(lambda: full(10**6))
        assert service.post("/v1/events", events).json()["accepted"] == 2000


def test_users_that_can_not_be_read_are_ranked_by_what_was_known_last(run: Path) -> None:
    with served(run) as service:
        user, other = service.users[:2]
        service.rank(user=user)  # from here on what was read of the user is held
        before = service.rank(user=user)
        assert before["warnings"] == []
        with service.folder.users.open("r+b") as file:
            file.write(b"x" * service.folder.users.stat().st_size)
        after = service.rank(user=user)
        assert "can't be read" in after["warnings"][0]
        assert after["items"] == before["items"]
        assert service.post("/v1/rank", {"user": other}).status_code == 503
        assert service.rank(history=service.items[:3], k=2)["items"]
        assert service.client.get("/health").status_code == 200


def test_the_old_summary_serves_while_the_new_one_is_written_and_that_is_told(
    writing: tuple[Served, CountingServer],
) -> None:
    service, server = writing
    release = threading.Event()
    server.say = lambda prompt: release.wait() and None
    user, items = service.users[0], service.items
    before = service.rank(user=user)
    service.append((user, items[0], LATER), (user, items[1], LATER + 1))
    during = service.rank(user=user)
    assert during["summary"] == before["summary"]
    assert during["unread_events"] == 2
    assert [one["item"] for one in service.profile(user)["history"][-2:]] == items[:2]
    fresh = service.rank(history=items[:3], candidates=items[3:5])
    assert "without a summary" in fresh["warnings"][0]
    assert fresh["summary"] == ""
    release.set()
    service.until(lambda: service.profile(user)["unread_events"] == 0)
    after = service.rank(user=user)
    assert after["summary"].startswith("Likes things of kind")
    assert after["unread_events"] == 0


def test_events_that_come_while_a_summary_is_written_are_read_after_it(
    writing: tuple[Served, CountingServer],
) -> None:
    service, server = writing
    asked, release = threading.Event(), threading.Event()

    def say(prompt: str) -> None:
        asked.set()
        release.wait()

    server.say = say
    items, recommender = service.items, service.engine.recommender
    service.append(*(("new", item, LATER + at) for at, item in enumerate(items[:7])))
    asked.wait()
    service.append(*(("new", item, LATER + 7 + at) for at, item in enumerate(items[7:12])))
    release.set()
    service.until(lambda: service.profile("new")["unread_events"] == 0)
    assert [one["item"] for one in service.profile("new")["history"]] == items[:12]
    [expected] = recommender.summarizer.summarize(
        [("new", recommender.read.items(items[:12]))], progress=False
    )
    assert [step.text for step in expected.steps] == recommender.users.get("new").blocks


def test_a_summary_that_can_not_be_written_is_told_and_tried_again(run: Path) -> None:
    with counting_server() as server:
        written_by(server.base_url, run)
        with served(run) as service:
            service.engine.recommender.limits = service.engine.recommender.limits.model_copy(
                update={"max_calls": 0}
            )
            user, item = service.users[0], service.items[0]
            service.append((user, item, LATER))
            service.until(lambda: service.client.get("/ready").json()["trouble"] != "")
            assert "max_calls" in service.client.get("/ready").json()["trouble"]
            assert service.rank(user=user)["unread_events"] == 1
            figures = service.client.get("/metrics").text
            assert "trsr_summaries_in_trouble 1.0" in figures
            told = service.rank(history=[item], candidates=service.items[:2])
            assert "can't be written" in told["warnings"][0]
    with counting_server() as server:  # the next start writes what is missing
        written_by(server.base_url, run)
        with served(run) as service:
            service.until(lambda: service.profile(user)["unread_events"] == 0)


def test_a_block_is_rewritten_and_those_behind_it_go_on_from_it(
    writing: tuple[Served, CountingServer],
) -> None:
    service, server = writing
    user = service.users[0]

    def rewrite(**body: object) -> dict[str, object]:
        answer = service.post("/v1/profile/rewrite", body, params={"user": user})
        assert answer.status_code == 200, answer.text
        profile: dict[str, object] = answer.json()
        return profile

    whole = rewrite()
    summaries = [block["summary"] for block in whole["blocks"]]  # type: ignore[attr-defined]
    assert len(summaries) >= 2
    assert whole["summary"] == summaries[-1]
    asked = server.asked.total()
    assert rewrite()["summary"] == whole["summary"]
    assert server.asked.total() == asked  # answered from the store
    rewrite(fresh=True)
    assert server.asked.total() > asked
    told = rewrite(block=0, text="Buys for a school.")
    blocks = [block["summary"] for block in told["blocks"]]  # type: ignore[attr-defined]
    assert blocks[0] == "Buys for a school."
    assert blocks[1] != summaries[1]
    assert any("Buys for a school." in prompt for prompt in server.asked)
    last = rewrite(block=len(blocks) - 1, text="Nothing but chairs.")
    assert last["summary"] == "Nothing but chairs." == service.rank(user=user)["summary"]
    refused = service.post("/v1/profile/rewrite", {"block": 99}, params={"user": user})
    assert refused.status_code == 422


def test_a_profile_in_sections_shows_which_items_caused_which_note(run: Path) -> None:
    def edits(prompt: str) -> str:
        if "\\n1. lamps" in prompt:
            return "DELETE 1\nADD lately: chairs"
        return "KEEP" if "\\n2. chairs" in prompt else "ADD lately: lamps"

    with counting_server() as server:
        server.say = edits
        written_by(server.base_url, run, **{"summary.paradigm": "sections"})
        with served(run) as service:
            params = {"user": service.users[0]}
            profile = service.post("/v1/profile/rewrite", {}, params=params).json()
            first, second = profile["blocks"][:2]
            lamps, chairs = profile["notes"]
            assert profile["summary"] == "Lately: chairs." == service.rank(**params)["summary"]
            assert (lamps["text"], lamps["blocks"], lamps["ended"]) == ("lamps", [0], 1)
            assert (chairs["section"], chairs["blocks"], chairs["ended"]) == ("lately", [1], None)
            assert (lamps["items"], chairs["items"]) == (first["items"], second["items"])
            told = {"block": 0, "text": "ADD dislikes: noise"}
            by_hand = service.post("/v1/profile/rewrite", told, params=params).json()
            assert by_hand["notes"][0]["text"] == "noise"
            wrong = service.post("/v1/profile/rewrite", {"block": 0, "text": "Likes tea."}, params=params)
            assert wrong.status_code == 422
            assert "had a line that is no edit: 'Likes tea.'" in wrong.json()["error"]["message"]


def test_the_built_in_writer_goes_on_from_no_text(run: Path) -> None:
    with served(run) as service:
        params = {"user": service.users[0]}
        service.client.put("/v1/profile", params=params, json={"summary": "Edited."})
        refused = service.post("/v1/profile/rewrite", {"text": "Buys for a school."}, params=params)
        assert refused.status_code == 422
        assert "edit the whole summary" in refused.json()["error"]["message"]
        assert service.post("/v1/profile/rewrite", {}, params=params).json()["summary"] != "Edited."


def test_a_deleted_user_takes_the_answers_along(writing: tuple[Served, CountingServer]) -> None:
    service, _ = writing
    user = service.users[0]
    service.append((user, service.items[0], LATER))
    service.until(lambda: service.profile(user)["unread_events"] == 0)
    url = service.engine.recommender.config.store_url
    with Store(url) as store:
        assert measure(store).users == 1
    removed = service.client.delete("/v1/users", params={"user": user}).json()["removed"]
    assert any("answers.db" in line for line in removed)
    with Store(url) as store:
        assert measure(store).usage.calls == 0
    with Users(service.folder.users) as users:
        assert users.behind() == []


def test_one_user_whose_summary_fails_keeps_no_other_from_theirs(
    writing: tuple[Served, CountingServer],
) -> None:
    service, server = writing
    marked = service.items[7]
    title = service.engine.recommender.describe(marked)
    server.say = lambda prompt: "I cannot help with that." if title in prompt else None
    service.append(("failing", marked, LATER), ("fine", service.items[0], LATER))
    service.until(lambda: service.profile("fine")["unread_events"] == 0)
    service.until(lambda: service.profile("failing")["failed"] != "")
    assert service.profile("failing")["unread_events"] == 1
    assert service.rank(user="failing", candidates=service.items[:2])["unread_events"] == 1
    assert "trsr_summaries_failing 1.0" in service.client.get("/metrics").text
    assert service.client.get("/ready").json()["trouble"] == ""
    # What nobody foresaw is told, too, and ends nothing.
    summarizer = service.engine.recommender.summarizer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summarizer, "append", lambda growths: 1 / 0)
        service.append(("later", service.items[1], LATER))
        service.until(lambda: "ZeroDivisionError" in service.client.get("/ready").json()["trouble"])
    service.until(lambda: service.profile("later")["unread_events"] == 0)
