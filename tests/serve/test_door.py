"""Who is let in and with what; what hostile texts come to over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hostile import ATTACKS, LONG_WORDS
from served import Served, held_up, served
from starlette.testclient import TestClient
from typer.testing import CliRunner

from trsr.cli import app
from trsr.errors import ConfigError
from trsr.serve.door import Keys, make_key
from trsr.serve.engine import Limits


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    path = tmp_path_factory.mktemp("keys") / "keys.txt"
    return {"path": str(path)} | {role: make_key(path, "the shop", role) for role in ("read", "full")}


@pytest.fixture(scope="module")
def guarded(service: Served, keys: dict[str, str]) -> Iterator[Served]:
    """A service that asks for keys and takes little."""
    limits = Limits(queue=2, text=2000, body=20_000, timeout_s=600)
    with served(service.folder.path, limits, Keys(Path(keys["path"]))) as running:
        yield running


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_nobody_comes_in_without_a_key(guarded: Served, keys: dict[str, str]) -> None:
    body = {"history": [], "k": 1}
    for headers in ({}, bearer("trsr_guess"), {"authorization": f"Basic {keys['full']}"}, bearer("")):
        answer = guarded.post("/v1/rank", body, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    assert guarded.post("/v2/rerank", {}, headers=bearer("x")).json()["message"]
    assert guarded.client.get("/metrics").status_code == 401
    assert guarded.client.get("/openapi.json").status_code == 401
    assert guarded.client.get("/health").status_code == 200
    assert guarded.client.get("/ready").status_code == 200


def test_a_key_that_reads_changes_nothing(guarded: Served, keys: dict[str, str]) -> None:
    user, event = {"user": guarded.users[0]}, {"events": [{"user": "new", "item": guarded.items[0]}]}
    reads = bearer(keys["read"])
    assert guarded.post("/v1/rank", user, headers=reads).status_code == 200
    assert guarded.client.get("/v1/profile", params=user, headers=reads).status_code == 200
    client = guarded.client
    for answer in (
        guarded.post("/v1/events", event, headers=reads),
        client.put("/v1/profile", params=user, json={"summary": "x"}, headers=reads),
        client.delete("/v1/profile", params=user, headers=reads),
        guarded.post("/v1/profile/rewrite", {}, params=user, headers=reads),
        client.delete("/v1/users", params=user, headers=reads),
        guarded.post("/v1/users/delete", {"users": ["u"]}, headers=reads),
    ):
        assert answer.status_code == 403
    assert guarded.post("/v1/events", event, headers=bearer(keys["full"])).status_code == 202


def test_keys_are_kept_as_hashes_and_end_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    said = CliRunner().invoke(app, ["key", "the shop", "--keys", str(path), "--read-only"])
    key = said.output.strip()
    assert key not in path.read_text()
    assert path.stat().st_mode & 0o77 == 0
    keys = Keys(path)
    assert keys.role(key) == "read"
    full = make_key(path, "admin\nroot", "full")
    assert keys.role(full) == "full"
    path.write_text(path.read_text().splitlines()[0] + "\n")
    assert (keys.role(key), keys.role(full)) == ("read", None)
    path.write_text("no hash\n")
    with pytest.raises(ConfigError, match="line 1"):
        keys.role(key)
    with pytest.raises(ConfigError, match="no file of keys"):
        Keys(tmp_path / "nowhere")


def test_others_are_let_in_only_with_keys() -> None:
    refused = CliRunner().invoke(app, ["serve", "nowhere", "--host", "0.0.0.0"])
    assert isinstance(refused.exception, ConfigError)
    assert "--keys" in str(refused.exception)


def test_a_page_of_others_reaches_no_service_without_keys(service: Served) -> None:
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""):
        answer = service.client.get("/v1/models", headers={"host": host})
        assert answer.status_code == 403, host
    for host in ("localhost:8000", "127.0.0.1:9", "[::1]:8000"):
        assert service.client.get("/v1/models", headers={"host": host}).status_code == 200
    plain = service.post("/v1/rank", {"history": []}, headers={"content-type": "text/plain"})
    assert plain.status_code == 415


def test_what_is_too_large_is_refused_before_it_is_read(guarded: Served, keys: dict[str, str]) -> None:
    headers = bearer(keys["full"]) | {"content-type": "application/json"}
    body = json.dumps({"history": [{"title": "x" * 30_000}]})
    assert guarded.client.post("/v1/rank", content=body, headers=headers).status_code == 413
    parts = iter([body[:9].encode(), body[9:].encode()])  # without a length
    assert guarded.client.post("/v1/rank", content=parts, headers=headers).status_code == 413
    long = guarded.post("/v1/rank", {"history": [{"title": "x" * 2001}]}, headers=headers)
    assert long.status_code == 422
    assert "2,000 characters" in long.json()["error"]["message"]
    assert (
        guarded.post("/v1/rerank", {"query": "x" * 2001, "documents": ["a"]}, headers=headers).status_code
        == 400
    )


def test_who_comes_when_too_many_wait_is_sent_away_and_told_when_to_come_again(
    guarded: Served, keys: dict[str, str]
) -> None:
    headers, body = bearer(keys["read"]), {"history": [], "summary": "", "k": 1}

    def rank() -> int:
        status: int = guarded.post("/v1/rank", body, headers=headers).status_code
        return status

    with ThreadPoolExecutor(3) as clients:
        with held_up(guarded):
            first = clients.submit(rank)  # is with the model, which is busy
            guarded.until(lambda: guarded.engine._scoring._task is not None and guarded.engine.waiting == 0)
            waiting = [clients.submit(rank) for _ in range(2)]
            guarded.until(lambda: guarded.engine.waiting == 2)
            away = guarded.post("/v1/rank", body, headers=headers)
            assert away.status_code == 429
            assert int(away.headers["retry-after"]) >= 1
            limited = guarded.post("/rerank", {"query": "x", "texts": ["a"]}, headers=headers)
            assert (limited.status_code, limited.json()["error_type"]) == (429, "overloaded")
        assert [each.result() for each in (first, *waiting)] == [200, 200, 200]


def test_who_waits_too_long_is_told(service: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.engine, "limits", replace(service.engine.limits, timeout_s=0.01))
    with held_up(service):
        late = service.post("/v1/rank", {"history": []})
        assert late.status_code == 503
        assert late.json()["error"]["type"] == "timeout"
        assert late.headers["retry-after"] == "1"
        backend = service.post("/rerank", {"query": "x", "texts": ["a"]})
        assert (backend.status_code, backend.json()["error_type"]) == (424, "backend")


@pytest.mark.parametrize("attack", [*ATTACKS])
def test_a_hostile_text_is_worth_its_visible_words(service: Served, attack: str) -> None:
    text, visible = ATTACKS[attack]
    offered = [{"title": text}, {"title": visible}]
    ranking = service.rank(history=[{"title": text}], summary=text, candidates=offered)
    scores = {item["index"]: item["p_yes"] for item in ranking["items"]}
    assert scores[0] == scores[1]
    other = service.rank(history=[{"title": visible}], summary=visible, candidates=offered)
    assert {item["index"]: item["p_yes"] for item in other["items"]} == pytest.approx(scores, abs=1e-6)
    # As ids they are nobody's, and nothing.
    assert service.client.get("/v1/profile", params={"user": text.replace("\ud83d", "")}).status_code == 404
    assert service.post("/v1/rank", {"history": [text]}).status_code == 422
    shapes: list[tuple[str, dict[str, Any]]] = [
        ("/v2/rerank", {"query": text, "documents": [text, {"text": text}], "return_documents": True}),
        ("/rerank", {"query": text, "texts": [text, visible], "return_text": True}),
        ("/v1/score", {"text_1": text, "text_2": [text, visible]}),
    ]
    for path, body in shapes:
        answer = service.post(path, body)
        assert answer.status_code == 200, answer.text
        answer.json()


def test_words_without_end_and_bodies_without_sense_end_no_request_badly(service: Served) -> None:
    client: TestClient = service.client
    headers = {"content-type": "application/json"}
    for word in LONG_WORDS:
        assert len(service.rank(history=[], candidates=[{"title": word[-20_000:]}])["items"]) == 1
    for body in (b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"history": 1e999}', b'"\\ud83d'):
        for path in ("/v1/rank", "/v2/rerank", "/rerank", "/v1/score", "/v1/events"):
            answer = client.post(path, content=body, headers=headers)
            assert 400 <= answer.status_code < 500, (path, body[:20], answer.text)
            answer.json()
