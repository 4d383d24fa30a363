"""The page without a browser: who comes in, what forms do, what is taken back, what a deletion leaves."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import httpx2
import polars as pl
import pytest
from served import LATER, PATIENT, Served, served
from starlette.testclient import TestClient

from trsr.artifacts import RunFolder
from trsr.config import Config
from trsr.recommender import Recommender
from trsr.serve.app import create_app
from trsr.serve.door import COOKIE, Figures, Keys, make_key
from trsr.serve.engine import Engine
from trsr.serve.keeping import _undone
from trsr.serve.profiles import Titles, growth_of
from trsr.serve.user_routes import profile_of
from trsr.users import UserRow

OWN = {"origin": "http://localhost"}


@pytest.fixture(scope="module")
def service(
    fused_run: tuple[Config, RunFolder], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A service of its own: most tests change a user."""
    path = Path(shutil.copytree(fused_run[1].path, tmp_path_factory.mktemp("page") / "run"))
    with served(path) as running:
        yield running


def form(service: Served, path: str, **fields: Any) -> Any:
    """Send a form as a browser does from the page itself."""
    return service.client.post(f"/page/{path}", data=fields, headers=OWN)


def text_of(answer: httpx2.Response) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", answer.text)).split())


def page_of(service: Served, user: str) -> str:
    answer = service.client.get("/page/user", params={"user": user})
    assert answer.status_code == 200
    return text_of(answer)


# -- Looking -------------------------------------------------------------------------------------------------


def test_the_root_leads_to_the_users_the_figures_and_the_bill(service: Served) -> None:
    told = text_of(service.client.get("/"))
    assert service.users[0] in told
    assert "Fused ranker" in told
    assert "Recall @3" in told
    assert "the keyphrase writer runs here" in told
    last = sorted(service.users)[-1]
    found = service.client.get("/page", params={"begins": last}).text
    assert found.count('class="user-id"') == 1
    assert "begins with “nobody" in service.client.get("/page", params={"begins": "nobody"}).text
    api = service.client.get("/v1/users", params={"begins": last[:-1], "limit": 3}).json()["users"]
    everybody = pl.read_parquet(service.folder.histories)["user_id"].unique().sort()
    assert api == [user for user in everybody if user.startswith(last[:-1])][:3]


def test_a_profile_shows_what_the_api_says(service: Served) -> None:
    user = service.users[1]
    profile, ranking = service.profile(user), service.rank(user=user)
    html = service.client.get("/page/user", params={"user": user}).text
    told = " ".join(unescape(re.sub("<[^>]+>", "", html)).split())
    assert told.count(profile["summary"]) >= 2  # at the top, and after the last block
    for block in profile["blocks"]:
        assert block["summary"] in told
    lines = [service.engine.recommender.describe(item["item"]) for item in ranking["items"]]
    places = [told.index(line) for line in lines]
    assert places == sorted(places)
    for sentence in profile["sentences"]:
        assert sentence["text"] in told
        for place in sentence["items"]:
            assert f'href="#item-{place + 1}"' in html
            assert f'id="item-{place + 1}"' in html


def test_a_profile_in_sections_shows_its_notes_and_what_caused_them(
    service: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, recommender = service.users[10], service.engine.recommender
    summary = recommender.config.summary.model_copy(update={"paradigm": "sections"})
    monkeypatch.setattr(recommender, "config", recommender.config.model_copy(update={"summary": summary}))
    edits = ["ADD lately: teapots\nADD lasting: green tea", "DELETE 1"]
    row = replace(recommender.users.get(user), blocks=edits, read=10)
    monkeypatch.setattr(service.engine, "user", AsyncMock(return_value=row))
    html = service.client.get("/page/user", params={"user": user}).text
    assert "<del>teapots</del>" in html
    assert "taken away in block 2" in html
    assert "<pre>DELETE 1</pre>" in html
    assert "No longer said: teapots" in html or "No longer said: Lately, teapots" in html


def test_blocks_that_are_read_alone_add_nothing_to_those_before(service: Served) -> None:
    profile = profile_of(service.engine, service.engine.recommender.users.get(service.users[1]))
    assert any(new for each in growth_of(profile.blocks, "recurrent")[1:] for _, new in each["pieces"])
    assert not any(new for each in growth_of(profile.blocks, "hierarchical") for _, new in each["pieces"])


def test_an_explanation_shows_what_the_api_says(service: Served) -> None:
    user = service.users[1]
    item = service.rank(user=user)["items"][0]["item"]
    said = service.post("/v1/explain", {"user": user, "item": item}).json()
    told = text_of(service.client.get("/page/explain", params={"user": user, "item": item}))
    for voice in said["systems"]:
        assert f"{voice['said']:.3f}" in told if voice["said"] is not None else True
    assert f"{said['p_yes_without_summary']:.3f}" in told


def test_what_if_ranks_as_the_api_does_and_keeps_nothing(service: Served) -> None:
    user = service.users[2]
    before, row = service.profile(user), service.engine.recommender.users.get(user)
    added = next(item for item in service.items if item not in row.history)
    history = [*row.history[1:], added]
    answer = form(service, "what-if", user=user, summary="Only walnut benches.", without="0", add=added)
    expected = service.rank(
        user=user, history=history, summary="Only walnut benches.", candidates=row.candidates
    )
    side = answer.text.partition("<h3>What if</h3>")[2].partition("</ol>")[0]
    shown = [unescape(line) for line in re.findall(r'<span class="clamp">(.*?)</span>', side)]
    assert shown == [service.engine.recommender.describe(each["item"]) for each in expected["items"]]
    assert "Keep this text as" not in answer.text  # items were changed too
    alone = form(service, "what-if", user=user, summary="Only walnut benches.")
    assert "Keep this text as" in alone.text
    anew = form(service, "what-if", user=user, summary="Not told.", without="0", anew="on")
    written = service.rank(user=user, history=row.history[1:], candidates=row.candidates)["summary"]
    assert f"The ranker was told: {written}" in text_of(anew)
    assert service.profile(user) == before


def test_items_are_found_by_words_of_their_titles(service: Served) -> None:
    catalogue = service.engine.recommender.catalogue
    line = service.engine.recommender.describe(service.items[3])
    first, second, *_ = line.upper().split()
    assert service.items[3] in Titles(catalogue).find(f"{second} {first}", 80)
    assert Titles(catalogue).find(service.items[3], 2) == [service.items[3]]
    assert Titles(catalogue).find(" ", 2) == []
    told = service.client.get(
        "/page/items", params={"words": line, "add": [service.items[5], "nothing"]}
    ).text
    assert re.findall(r'value="([^"]+)" checked', told) == [service.items[5]]
    assert f'value="{service.items[3]}"' in told


def test_the_whole_catalogue_is_shown_as_it_is_recommended(service: Served) -> None:
    recommender = service.engine.recommender
    service.append(("without candidates", service.items[0], LATER))
    service.until(lambda: service.profile("without candidates")["unread_events"] == 0)
    for user in ("without candidates", service.users[11]):
        said = service.post("/v1/recommend", {"user": user, "k": 20}).json()["items"]
        html = service.client.get("/page/user", params={"user": user, "of": "catalogue"}).text
        shown = [unescape(line) for line in re.findall(r'<span class="line">(.*?)</span>', html)]
        assert shown == [recommender.describe(each["item"]) for each in said]
        first = said[0]["item"]
        asked = {"user": user, "item": first, "of": "catalogue"}
        assert f"{said[0]['score']:.4f}" in text_of(service.client.get("/page/explain", params=asked))
        given = {} if user == "without candidates" else {"catalogue": True}
        told = service.post("/v1/explain", {"user": user, "item": first} | given).json()
        assert told["score"] == pytest.approx(said[0]["score"])
        tried = form(service, "what-if", user=user, of="catalogue", summary="Only mugs.", add=first)
        body = {"user": user, "summary": "Only mugs.", "k": 20}
        body["history"] = [*recommender.users.get(user).history, first]
        other = service.post("/v1/recommend", body).json()["items"]
        side = tried.text.partition("<h3>What if</h3>")[2].partition("</ol>")[0]
        lines = [unescape(line) for line in re.findall(r'<span class="clamp">(.*?)</span>', side)]
        assert lines == [recommender.describe(each["item"]) for each in other]
        assert side.count(">new<") == len({each["item"] for each in other} - {each["item"] for each in said})


def test_what_cannot_be_ranked_leaves_the_profile(service: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.engine, "limits", replace(service.engine.limits, candidates=10))
    told = page_of(service, service.users[12])
    assert "Can't be ranked now:" in told
    assert "--max-candidates" in told
    assert service.profile(service.users[12])["summary"] in told


def test_a_bundle_says_that_it_knows_nobody(service: Served) -> None:
    app = create_app(Engine(Recommender.load(service.folder.bundle), PATIENT), Figures())
    with TestClient(app, base_url="http://localhost") as client:
        told = client.get("/page")
        assert told.status_code == 200
        assert "a bundle without users" in told.text
        assert client.get("/page/user", params={"user": "u"}).status_code == 422


# -- Changing ------------------------------------------------------------------------------------------------


def test_an_edit_counts_and_is_taken_back_step_by_step(service: Served) -> None:
    user = service.users[3]
    written = service.profile(user)["summary"]
    for text in ("Only walnut benches.", "Only mugs.\r\nAnd tea."):
        answer = form(service, "change/edit", user=user, summary=text)
        assert "Your text is the summary now" in answer.text
    assert service.rank(user=user)["summary"] == "Only mugs.\nAnd tea."
    assert "The last change was taken back" in form(service, "change/undo", user=user).text
    assert service.profile(user)["summary"] == "Only walnut benches."
    assert "Undo" not in page_of(service, user)  # one step is remembered
    assert form(service, "change/undo", user=user).status_code == 422
    form(service, "change/written", user=user)
    assert service.profile(user)["summary"] == written
    undone = service.client.post("/v1/profile/undo", params={"user": user}).json()
    assert (undone["summary"], undone["edited"]) == ("Only walnut benches.", True)


def test_a_rewriting_is_taken_back_with_what_it_took_away(service: Served) -> None:
    user = service.users[4]
    form(service, "change/edit", user=user, summary="A person's.")
    before = service.engine.recommender.users.get(user)
    answer = form(service, "change/rewrite", user=user, block="0")
    assert "was written again" in answer.text
    assert service.engine.recommender.users.get(user).edited is None
    service.append((user, service.items[0], LATER))  # history goes on; what was written is as it was, or not
    service.until(lambda: service.profile(user)["unread_events"] == 0)
    newer = service.engine.recommender.users.get(user)
    answer = form(service, "change/undo", user=user)
    now = service.engine.recommender.users.get(user)
    assert now.edited == "A person's."
    assert now.summary == newer.summary
    assert len(now.history) == len(before.history) + 1


def test_what_is_taken_back_knows_what_the_summary_has_read() -> None:
    before = UserRow("u", ["a", "b"], summary="One.", blocks=["One."], state="1", read=1)
    after = replace(before, summary="Two.", blocks=["Two."], state="2", read=None)
    now = replace(after, history=["a", "b", "c"], read=2)
    undone = _undone(now, before, after)
    assert undone == replace(now, summary="One.", blocks=["One."], state="1", read=1)
    whole = replace(before, read=None)
    assert _undone(now, whole, after).read == 2
    assert _undone(after, whole, after) == whole


def test_an_undo_never_goes_over_what_came_later(service: Served) -> None:
    user = service.users[5]
    form(service, "change/edit", user=user, summary="First.")
    with Recommender.load(service.folder.path) as elsewhere:  # another process
        users = elsewhere.users
        users.change([user], lambda now: [replace(now[user], edited="Second.")])
    assert "Undo" not in page_of(service, user)
    answer = form(service, "change/undo", user=user)
    assert answer.status_code == 422
    assert "has changed since" in unescape(answer.text)
    assert service.profile(user)["summary"] == "Second."


def test_a_deletion_hides_at_once_and_can_be_taken_back(service: Served) -> None:
    user = service.users[6]
    before = service.profile(user)
    answer = form(service, "change/leave", user=user)
    assert "Being deleted" in answer.text
    assert service.client.get("/v1/profile", params={"user": user}).status_code == 404
    assert service.post("/v1/rank", {"user": user}).status_code == 404
    assert service.client.get("/page/user", params={"user": user}).status_code == 404
    assert user not in service.client.get("/v1/users", params={"limit": 1000}).json()["users"]
    form(service, "change/stay", user=user)
    assert service.profile(user) == before
    assert form(service, "change/stay", user=user).status_code == 422
    api = service.client.delete("/v1/users", params={"user": user, "after_s": 600}).json()
    assert api["leaves"] > time.time()
    assert service.profile_status(user) == 404
    service.client.post("/v1/users/restore", params={"user": user})
    assert service.profile(user) == before


def test_a_deletion_that_is_confirmed_leaves_nothing(service: Served) -> None:
    user = service.users[7]
    form(service, "change/edit", user=user, summary="Cherishes zithers.")
    page = service.folder.path / "report.html"
    page.write_text(f"<p>{user}: Cherishes zithers.</p>", encoding="utf-8")
    form(service, "change/leave", user=user)
    told = text_of(form(service, "change/delete", user=user))
    assert "histories.parquet" in told
    assert "report.html: deleted" in told
    assert not page.exists()
    held = service.folder.users.read_bytes()
    assert user.encode() not in held
    assert b"zithers" not in held
    assert form(service, "change/undo", user=user).status_code == 422
    assert "Nobody to delete" in form(service, "change/delete", user=user).text


def test_what_was_to_be_deleted_is_deleted_after_the_next_start(service: Served) -> None:
    user, other = service.users[8], service.users[9]
    with Recommender.load(service.folder.path) as elsewhere:  # a process that is killed after it said so
        elsewhere.users.change([user], lambda now: [replace(now[user], leaves=int(time.time()) - 5)])
        elsewhere.users.change([other], lambda now: [replace(now[other], leaves=int(time.time()) + 600)])
    with served(service.folder.path) as started:
        started.until(lambda: user not in started.here(started.engine.leaving))
        assert user.encode() not in started.folder.users.read_bytes()
        assert [*started.here(started.engine.leaving)] == [other]
        assert profile_of(started.engine, started.here(lambda: started.engine.stay(other))).user == other


# -- Coming in -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(service: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, str, str]]:
    path = tmp_path_factory.mktemp("keys") / "keys.txt"
    read, full = make_key(path, "looks", "read"), make_key(path, "keeps", "full")
    with served(service.folder.path, keys=Keys(path)) as running:
        yield running, read, full


def test_a_key_comes_in_by_a_cookie_that_only_the_page_takes(guarded: tuple[Served, str, str]) -> None:
    service, _, full = guarded
    client = service.client
    asked = client.get("/")
    assert asked.status_code == 401
    assert 'type="password"' in asked.text
    assert "frame-ancestors 'none'" in asked.headers["content-security-policy"]
    came = client.post("/page/login", data={"key": full}, headers=OWN, follow_redirects=False)
    cookie = came.headers["set-cookie"].lower()
    assert {"httponly", "samesite=strict", "path=/page"} <= {part.strip() for part in cookie.split(";")}
    assert client.get("/page").status_code == 200
    assert client.get("/v1/profile", params={"user": service.users[0]}).status_code == 401
    assert client.get("/page/user", params={"user": service.users[0]}).text.count("/page/change/edit") >= 1
    assert 'type="password"' in form(service, "logout").text
    assert client.get("/page").status_code == 401
    wrong = form(service, "login", key="trsr_guess")
    assert wrong.status_code == 401
    client.cookies.clear()


def test_a_key_that_reads_tries_and_changes_nothing(guarded: tuple[Served, str, str]) -> None:
    service, read, _ = guarded
    user = service.users[0]
    form(service, "login", key=read)
    shown = service.client.get("/page/user", params={"user": user}).text
    assert "/page/change/" not in shown
    tried = form(service, "what-if", user=user, summary="Only mugs.")
    assert "<h3>What if</h3>" in tried.text
    assert "/page/change/" not in tried.text
    for path in ("edit", "written", "rewrite", "undo", "leave", "stay", "delete"):
        assert form(service, f"change/{path}", user=user, summary="x", block="0").status_code == 403
    service.client.cookies.clear()
    assert service.client.cookies.get(COOKIE) is None


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "null"},
        {"origin": "https://elsewhere.example"},
        {"origin": "http://localhost.elsewhere.example"},
        {"origin": "http://localhost", "sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_form_of_another_site_is_refused(service: Served, headers: dict[str, str]) -> None:
    user = service.users[0]
    for path in ("change/edit", "change/delete", "what-if", "login"):
        answer = service.client.post(f"/page/{path}", data={"user": user, "summary": "x"}, headers=headers)
        assert answer.status_code == 403
        assert "sent from this page" in answer.text
    assert service.profile(user)["summary"] != "x"


def test_a_form_reaches_no_api_and_json_reaches_no_page(service: Served) -> None:
    assert service.client.post("/v1/rank", data={"user": "u"}, headers=OWN).status_code == 415
    assert service.client.post("/page/what-if", json={"user": "u"}, headers=OWN).status_code == 415
    assert form(service, "what-if").status_code == 422
    assert form(service, "change/rewrite", user=service.users[0], block="last").status_code == 422
    assert service.client.get("/page/static/../page.py").status_code == 404
    assert service.client.get("/page/nowhere").status_code == 404
    assert text_of(service.client.get("/page/user", params={"user": "nobody"})).count("no such user") == 1


def test_whatever_a_text_says_stays_a_text(service: Served) -> None:
    user, text = '"><script>alert(1)</script>', "</textarea><img src=x onerror=alert(1)>{{ 7 * 7 }}"
    service.append((user, service.items[0], LATER))
    service.client.put("/v1/profile", params={"user": user}, json={"summary": text})
    for answer in (
        service.client.get("/page/user", params={"user": user}),
        form(service, "what-if", user=user, summary=text + "!"),
        service.client.get("/page", params={"begins": user}),
        service.client.get("/page/items", params={"words": user, "add": [user]}),
        form(service, "change/leave", user=user),
        form(service, "change/delete", user=user),
    ):
        assert answer.status_code == 200
        assert "<script>alert" not in answer.text
        assert "<img" not in answer.text
        if "onerror" in answer.text:
            assert "{{ 7 * 7 }}" in unescape(answer.text)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-store"


def test_the_page_needs_nothing_from_elsewhere(service: Served) -> None:
    texts = [service.client.get("/page").text, service.client.get(f"/page/user?user={service.users[0]}").text]
    for name in ("look.css", "page.css", "htmx.min.js"):
        answer = service.client.get(f"/page/static/{name}")
        assert answer.status_code == 200
        texts += [answer.text] if name.endswith("css") else []
    for text in texts:
        assert not re.search(r"(?:https?:)?//[a-z]", text)
        assert not re.search(r"\sstyle=|\son\w+=", text)
    notice = (Path(__file__).parents[2] / "NOTICE").read_text(encoding="utf-8")
    assert "htmx 2.0.11" in notice
