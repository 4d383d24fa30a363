"""The service's own API: rankings, explanations, events, profiles, and what it says when it can't serve."""

from __future__ import annotations

import gc
import json
import os
import socket
from typing import Any

import polars as pl
import pytest
import uvicorn
from served import LATER, PATIENT, Served
from starlette.testclient import TestClient

from trsr.prompts.words import words
from trsr.recommender import Recommender
from trsr.serve.app import create_app, run
from trsr.serve.door import Figures
from trsr.serve.engine import Engine, Limits


@pytest.fixture(scope="module")
def recommender(service: Served) -> Recommender:
    return service.engine.recommender


def test_a_known_user_is_ranked_as_in_python(service: Served, recommender: Recommender) -> None:
    user = service.users[0]
    expected = recommender.rank_user(user)
    ranking = service.rank(user=user)
    assert ranking["summary"] == expected.summary
    assert [item["item"] for item in ranking["items"]] == [item.item_id for item in expected.items]
    assert [item["score"] for item in ranking["items"]] == pytest.approx(
        [item.score for item in expected.items], abs=1e-6
    )
    assert [item["rank"] for item in ranking["items"]] == [*range(1, 22)]
    row = recommender.users.get(user)
    assert [row.candidates[item["index"]] for item in ranking["items"]] == [
        item["item"] for item in ranking["items"]
    ]
    again = service.rank(user=user, k=3, unheard_of=1)
    assert len(again["items"]) == 3
    assert 0 < again["usage"]["reused_tokens"] < again["usage"]["prompt_tokens"]


def test_a_history_is_ranked_as_in_python(service: Served, recommender: Recommender) -> None:
    history, offered = service.items[:5], [*service.items[5:8], {"title": "Teak bench"}]
    expected = recommender.rank(history=history, candidates=offered)
    ranking = service.rank(history=history, candidates=offered)
    assert ranking["summary"] == expected.summary
    assert [item["item"] for item in ranking["items"]] == [item.item_id for item in expected.items]
    told = service.rank(history=history, candidates=offered, summary="Likes benches.")
    assert told["summary"] == "Likes benches."
    assert service.rank(summary="Likes benches.", candidates=offered)["summary"] == "Likes benches."


def test_a_batch_is_ranked_as_one_by_one_and_one_that_fails_leaves_the_others(service: Served) -> None:
    asked: list[dict[str, Any]] = [{"user": user, "k": 4} for user in service.users[:3]]
    asked += [{"user": "nobody"}, {"history": ["nowhere"], "candidates": service.items[:2]}, {"history": []}]
    results = service.post("/v1/rank/batch", {"requests": asked}).json()["results"]
    for ask, result in zip(asked[:3], results[:3], strict=True):
        alone = service.rank(**ask)
        assert [item["item"] for item in result["items"]] == [item["item"] for item in alone["items"]]
        scores = [item["score"] for item in alone["items"]]
        assert [item["score"] for item in result["items"]] == pytest.approx(scores, abs=1e-6)
    assert [result["error"]["status"] for result in results[3:5]] == [404, 422]
    assert len(results[5]["items"]) == service.engine.recommender.whole.items


def test_what_is_recommended_is_new_to_the_user(service: Served, recommender: Recommender) -> None:
    user = service.users[1]
    history = set(recommender.users.get(user).history)
    never = {"k": 5, "repeats": "never"}
    for body in ({"user": user}, {"history": [*history]}, {"user": user, "candidates": service.items}):
        answer = service.post("/v1/recommend", body | never).json()
        items = [item["item"] for item in answer["items"]]
        assert len(items) == 5
        assert not history & {*items}
        assert (answer["read"], answer["left_out"]) == (20, 0)
    many = service.post("/v1/recommend/batch", {"requests": [{"user": user} | never]}).json()
    assert [item["item"] for item in many["results"][0]["items"]] == items


def test_a_recommendation_is_the_library_s_and_explains_itself(
    service: Served, recommender: Recommender
) -> None:
    user = service.users[0]
    body = {"user": user, "k": 3, "explain": True, "deny": [service.items[0], "unheard-of"]}
    answer = service.post("/v1/recommend", body).json()
    expected = recommender.recommend(user=user, k=3, deny=body["deny"], explain=True)
    assert [item["item"] for item in answer["items"]] == [item.item_id for item in expected.items]
    assert answer["warnings"] == ["1 of 2 ids to deny aren't in the catalogue"]
    first, item = answer["items"][0], expected.items[0]
    assert {voice["system"]: voice["adds"] for voice in first["systems"]} == pytest.approx(
        {voice.system: voice.adds for voice in item.voices}, abs=1e-6
    )
    asked = {"user": user, "item": first["item"], "catalogue": True}
    told = service.post("/v1/explain", asked).json()
    assert told["score"] == pytest.approx(first["score"], abs=1e-6)
    assert told["systems"][-1]["system"] == "in the history"


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        ({"where": {"category": ["Spaceships"]}}, "no item has 'Spaceships' in its field category"),
        ({"where": {"colour": ["red"]}}, "items have no field 'colour'"),
        ({"candidates": ["unheard-of"]}, "no item of the catalogue passes the filters"),
        ({"repeats": "sometimes"}, "repeats"),
        ({"items": 2000}, "2,000 are more than the 1,000"),
    ],
)
def test_wishes_that_can_t_be_are_refused(service: Served, wish: dict[str, Any], told: str) -> None:
    answer = service.post("/v1/recommend", {"user": service.users[0]} | wish)
    assert answer.status_code == 422
    assert told in answer.json()["error"]["message"]


def test_an_explanation_adds_up_to_the_score(service: Served) -> None:
    user = service.users[2]
    ranking = service.rank(user=user)
    best, worst = ranking["items"][0], ranking["items"][-1]
    told = [service.post("/v1/explain", {"user": user, "item": one["item"]}).json() for one in (best, worst)]
    for one, item in zip(told, (best, worst), strict=True):
        assert one["score"] == pytest.approx(item["score"], abs=1e-6)
        assert one["p_yes"] == pytest.approx(item["p_yes"], abs=1e-6)
        assert one["line"]
        without = {"user": user, "summary": "", "candidates": [item["item"]]}
        assert one["p_yes_without_summary"] == pytest.approx(service.rank(**without)["items"][0]["p_yes"])
    sums = [sum(voice["adds"] for voice in one["systems"]) for one in told]
    assert sums[0] > sums[1]
    systems = {voice["system"] for voice in told[0]["systems"]}
    assert systems == {"language_model", "sasrec_text", "itemknn", "tfidf", "popularity", "cold item"}
    recent = [one["item"] for one in told[0]["recent_items"]]
    assert recent == [event["item"] for event in service.profile(user)["history"][-len(recent) :]]
    short = {"history": recent[:2], "summary": told[0]["summary"], "item": best["item"]}
    shown = service.post("/v1/explain", short).json()
    assert [one["item"] for one in shown["recent_items"]] == recent[:2]
    for one, kept in zip(shown["recent_items"], (recent[1], recent[0]), strict=True):
        without = short | {"history": [kept]}
        assert one["p_yes_without"] == pytest.approx(service.post("/v1/explain", without).json()["p_yes"])
    cold = service.post("/v1/explain", {"history": [], "item": {"title": "Teak bench"}}).json()
    assert cold["recent_items"] == []
    assert cold["p_yes_without_summary"] is None
    assert {voice["system"]: voice["adds"] for voice in cold["systems"]}["itemknn"] == 0


def test_events_count_at_once_and_the_summary_follows(service: Served, recommender: Recommender) -> None:
    user = service.users[3]
    before = service.profile(user)
    known = {event["item"] for event in before["history"]}
    new = [item for item in service.items if item not in known][:6]
    told = service.append(
        *((user, item, LATER + at) for at, item in enumerate(new)),
        ("newcomer", new[0], "2100-01-01T00:00:00Z"),
        ("newcomer", "nothing"),
    )
    assert told["accepted"] == 7
    assert told["users"] == {user: 6, "newcomer": 1}
    assert "unknown-item" in {found["rule"] for found in told["findings"]}
    after = service.profile(user)
    assert [event["item"] for event in after["history"]][-6:] == new
    service.until(lambda: service.profile(user)["unread_events"] == 0)
    service.until(lambda: service.profile("newcomer")["unread_events"] == 0)
    history = [event["item"] for event in after["history"]]
    expected = recommender.rank(history=history, candidates=new)
    ranking = service.rank(user=user, candidates=new)
    assert ranking["summary"] == expected.summary != before["summary"]
    assert [item["item"] for item in ranking["items"]] == [item.item_id for item in expected.items]
    again = service.append(*((user, item, LATER + at) for at, item in enumerate(new)))
    assert (again["accepted"], again["users"]) == (0, {})
    assert service.rank(user="newcomer", candidates=new)["summary"]


def test_a_profile_says_what_it_rests_on(service: Served) -> None:
    profile = service.profile(service.users[4])
    texts = {row[0]: " ".join(row[1:]) for row in pl.read_parquet(service.folder.items).iter_rows()}
    places = [place for block in profile["blocks"] for place in block["items"]]
    assert places == [*range(len(profile["history"]))]
    assert profile["blocks"][-1]["summary"] == profile["summary"]
    assert " ".join(sentence["text"] for sentence in profile["sentences"]) == profile["summary"]
    for sentence in profile["sentences"]:
        for place in sentence["items"]:
            assert {*words(sentence["text"])} & {*words(texts[profile["history"][place]["item"]])}
    assert any(sentence["items"] for sentence in profile["sentences"])


def test_an_edit_holds_whatever_is_written_until_it_is_taken_away(service: Served) -> None:
    user = service.users[5]
    before = service.profile(user)
    answer = service.client.put(
        "/v1/profile", params={"user": user}, json={"summary": "Only walnut benches."}
    )
    assert answer.json()["summary"] == "Only walnut benches."
    ranking = service.rank(user=user)
    assert ranking["edited"]
    assert ranking["summary"] == "Only walnut benches."
    service.append((user, service.items[0], LATER), (user, service.items[1], LATER + 1))
    service.until(lambda: service.profile(user)["unread_events"] == 0)
    edited = service.profile(user)
    assert edited["summary"] == "Only walnut benches."
    assert edited["written"] != before["written"]
    undone = service.client.delete("/v1/profile", params={"user": user}).json()
    assert not undone["edited"]
    assert undone["summary"] == edited["written"] == service.rank(user=user)["summary"]


def test_a_deleted_user_is_gone_from_the_service_and_from_the_run(service: Served) -> None:
    user = service.users[6]
    ranking = service.rank(user=user)
    service.client.put("/v1/profile", params={"user": user}, json={"summary": "Cherishes xylophones."})
    service.rank(user=user)
    answer = service.client.delete("/v1/users", params={"user": user}).json()
    assert answer["known"]
    assert any("users.sqlite" in line for line in answer["removed"])
    assert any("histories.parquet" in line for line in answer["removed"])
    assert service.client.get("/v1/profile", params={"user": user}).status_code == 404
    assert service.post("/v1/rank", {"user": user}).status_code == 404
    assert len(service.engine.recommender.scorer.memory) == 0
    held = service.folder.users.read_bytes()
    assert user.encode() not in held
    assert ranking["summary"].encode() not in held
    assert b"xylophones" not in held
    many = service.post("/v1/users/delete", {"users": [user, "nobody"]}).json()["users"]
    assert [one["known"] for one in many] == [False, False]


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/v1/rank", {}, 422, "give a user, a history or a summary"),
        ("/v1/rank", {"history": ["nowhere"]}, 422, "'nowhere' is not in the catalogue"),
        ("/v1/rank", {"history": [], "candidates": []}, 422, "at least one item"),
        ("/v1/rank", {"history": [], "candidates": [{"colour": "red"}]}, 422, "must have an id"),
        ("/v1/rank", {"history": [], "k": 0}, 422, "body.k"),
        ("/v1/rank", {"history": [], "candidates": ["P0001"] * 1001}, 422, "--max-candidates"),
        ("/v1/rank", {"user": "nobody"}, 404, "no such user"),
        ("/v1/rank/batch", {"requests": []}, 422, "body.requests"),
        ("/v1/events", {"events": [{"user": "u", "item": "nothing"}]}, 422, "known item"),
        ("/v1/events", {"events": [{"user": "u", "item": "P0001", "time": "soon"}]}, 422, "time"),
        ("/v1/nowhere", {}, 404, "Not Found"),
    ],
)
def test_what_is_wrong_is_said_in_one_form(
    service: Served, path: str, body: dict[str, Any], status: int, said: str
) -> None:
    answer = service.post(path, body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["status"] == status
    assert said in error["message"]


def test_a_fault_of_the_service_is_told_without_its_inside(
    service: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(service.engine.recommender.scorer, "score", broken)
    answer = service.post("/v1/rank", {"user": service.users[0]})
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "internal"
    assert "secret" not in answer.text


def test_the_service_describes_itself(service: Served) -> None:
    described = service.client.get("/openapi.json").json()
    wanted = {"rank", "rank/batch", "recommend", "recommend/batch", "explain", "events", "profile", "users"}
    assert {f"/v1/{name}" for name in wanted} < {*described["paths"]}
    assert "429" in described["paths"]["/v1/rank"]["post"]["responses"]
    assert "http" not in json.dumps(described["paths"])


def test_health_readiness_and_figures(service: Served) -> None:
    assert service.client.get("/health").json()["status"] == "ok"
    ready = service.client.get("/ready")
    assert ready.status_code == 200
    assert ready.json() | {"trouble": ""} == {
        "ready": True,
        "ranked_by": "fused",
        "items": len(service.items),
        "users": True,
        "trouble": "",
    }
    user = service.users[0]
    service.rank(user=user)
    service.rank(user=user)
    told = service.client.get("/metrics").text
    figures = dict(line.rsplit(" ", 1) for line in told.splitlines() if not line.startswith("#"))
    assert float(figures['trsr_requests_total{path="/v1/rank",status="200"}']) >= 2
    assert float(figures['trsr_prompt_tokens_total{held="yes"}']) > 0
    assert float(figures["trsr_batch_requests_count"]) >= 2
    assert user not in told


def test_a_bundle_ranks_histories_and_says_that_it_knows_nobody(service: Served) -> None:
    figures = Figures()
    app = create_app(Engine(Recommender.load(service.folder.bundle), PATIENT), figures)
    history = {"history": service.items[:3], "candidates": service.items[3:6]}
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/ready").json()["users"] is False
        ranking = client.post("/v1/rank", json=history).json()
        assert [one["item"] for one in ranking["items"]] == [
            one["item"] for one in service.rank(**history)["items"]
        ]
        event = {"user": "u", "item": service.items[0]}
        for answer in (
            client.post("/v1/rank", json={"user": "u"}),
            client.post("/v1/events", json={"events": [event]}),
            client.get("/v1/profile", params={"user": "u"}),
            client.delete("/v1/users", params={"user": "u"}),
        ):
            assert answer.status_code == 422
            assert "a bundle knows no users" in answer.json()["error"]["message"]


def test_an_answer_does_not_wait_for_an_acknowledgement(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []

    def accept(self: uvicorn.Server, sockets: list[socket.socket]) -> None:
        with socket.create_connection(sockets[0].getsockname()), sockets[0].accept()[0] as connection:
            told.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(uvicorn.Server, "run", accept)
    monkeypatch.setattr(gc, "freeze", lambda: None)
    monkeypatch.setattr(os, "_exit", lambda code: None)
    run(recommender, "127.0.0.1", 0, Limits(), None, lambda line: None)
    assert told == [1]
