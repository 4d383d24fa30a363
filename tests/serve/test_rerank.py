"""The shapes of others, asked by Cohere's own client and in the words of Gorse, vLLM and TEI."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import cohere
import httpx
import jinja2
import pytest
from cohere.errors import BadRequestError
from served import Served

DOCUMENTS = ["Teak bench", "Copper frying pan", "Canvas messenger bag"]


def by_cohere(service: Served, ask: Callable[[cohere.AsyncClientV2], Any]) -> Any:
    """Let Cohere's client ask the application itself, in its own event loop."""

    async def asked() -> Any:
        transport = httpx.ASGITransport(service.client.app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport) as connection:
            client = cohere.AsyncClientV2(
                "any", base_url="http://localhost", httpx_client=connection, client_name="test"
            )
            return await ask(client)

    return service.here(asked)


def order(service: Served, **body: Any) -> list[int]:
    return [item["index"] for item in service.rank(**body)["items"]]


def test_the_cohere_client_ranks_for_a_known_user(service: Served) -> None:
    user, offered = service.users[0], service.items[:9]
    answer = by_cohere(
        service,
        lambda client: client.rerank(model="any", query=f"user:{user}", documents=offered, top_n=4),
    )
    assert [result.index for result in answer.results] == order(service, user=user, candidates=offered)[:4]
    scores = [result.relevance_score for result in answer.results]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert answer.meta.api_version.version == "2"
    assert answer.meta.billed_units.search_units == 1


def test_the_cohere_client_is_told_what_is_wrong_in_its_own_form(service: Served) -> None:
    too_many = ["bench"] * (service.engine.limits.candidates + 1)
    with pytest.raises(BadRequestError) as refused:
        by_cohere(service, lambda client: client.rerank(model="any", query="benches", documents=too_many))
    assert "--max-candidates" in refused.value.body["message"]


def test_version_one_takes_objects_and_gives_documents_back(service: Served) -> None:
    item, other = service.items[4:6]
    given = [
        {"text": "Teak bench", "price": 3},
        {"id": item, "text": "its own text counts"},
        {"title": "Copper frying pan", "brand": "Oskelby"},
        other,
    ]
    body = {"query": "Likes benches.", "documents": given, "return_documents": True, "unheard_of": {}}
    answer = service.post("/v1/rerank", body).json()
    assert {result["index"]: result["document"] for result in answer["results"]} == {
        0: given[0], 1: given[1], 2: {"text": "Copper frying pan, Oskelby"} | given[2], 3: {"text": other},
    }  # fmt: skip
    assert answer["usage"]["total_tokens"] > 0
    assert answer["meta"]["query_read_as"] == "profile"
    same = [{"title": "Teak bench"}, item, {"title": "Copper frying pan", "brand": "Oskelby"}, other]
    expected = service.rank(summary="Likes benches.", candidates=same)["items"]
    assert [result["index"] for result in answer["results"]] == [one["index"] for one in expected]
    unsaid = service.post("/v1/rerank", body | {"return_documents": None}).json()["results"]
    assert [one["document"] for one in unsaid] == [one["document"] for one in answer["results"]]
    bare = service.post("/v1/rerank", body | {"return_documents": False}).json()
    assert all("document" not in result for result in bare["results"])
    titles = service.post("/v1/rerank", body | {"rank_fields": ["title"]}).json()
    assert len(titles["results"]) == 4


@pytest.mark.parametrize("top", [{"top_n": 2}, {"top_k": 2}, {"top_n": 0}, {}])
def test_as_many_come_back_as_are_asked_for(service: Served, top: dict[str, int]) -> None:
    answer = service.post("/v1/rerank", {"query": "benches", "documents": DOCUMENTS} | top).json()
    assert len(answer["results"]) == (2 if 2 in top.values() else 3)


def test_a_query_is_a_user_or_items_or_words(service: Served) -> None:
    user, items = service.users[1], service.items
    titles = [service.engine.recommender.describe(item) for item in items[:3]]
    offered = items[3:8]
    for query, read_as, same in (
        (f" User: {user} ", "user", {"user": user}),
        ("\n".join(items[:3]), "history", {"history": items[:3]}),
        ("\n".join(f"- {title}" for title in titles), "history", {"history": items[:3]}),
        (f"{titles[0]}\nTeak bench", "history", {"history": [items[0], {"title": "Teak bench"}]}),
        ("Likes teak.\nNever plastic.", "profile", {"summary": "Likes teak.\nNever plastic."}),
    ):
        answer = service.post("/v1/rerank", {"query": query, "documents": offered}).json()
        assert answer["meta"]["query_read_as"] == read_as
        expected = service.rank(candidates=offered, **same)["items"]
        told = {result["index"]: result["relevance_score"] for result in answer["results"]}
        assert told == pytest.approx({one["index"]: one["score"] for one in expected}, abs=1e-6)


def test_our_own_fields_go_before_the_query(service: Served) -> None:
    user, offered = service.users[1], service.items[3:8]
    for body in ({"user": user}, {"history": service.items[:3]}):
        answer = service.post("/v2/rerank", body | {"query": "x", "documents": offered}).json()
        indices = [result["index"] for result in answer["results"]]
        assert indices == order(service, candidates=offered, **body)


def test_a_user_whom_nobody_knows_is_a_newcomer_and_that_is_said(service: Served) -> None:
    answer = service.post("/v1/rerank", {"query": "user:stranger", "documents": DOCUMENTS}).json()
    assert "newcomer" in answer["meta"]["warnings"][0]
    assert len(answer["results"]) == 3


def test_gorse_asks_as_it_does(service: Served) -> None:
    """Its templates, rendered as it renders them, and the three fields that it sends and the two it reads."""

    class Entity:
        def __init__(self, **fields: Any) -> None:
            self.__dict__.update(fields)

    user = service.users[2]
    query = jinja2.Template("user:{{ user.UserId }}").render(user=Entity(UserId=user))
    template = jinja2.Template("{{ item.ItemId }}")
    documents = [template.render(item=Entity(ItemId=item)) for item in service.items[:6]]
    headers = {"authorization": "Bearer whatever"}
    answer = service.post(
        "/v1/rerank", {"model": "trsr", "query": query, "documents": documents}, headers=headers
    ).json()
    read = [(result["index"], result["relevance_score"]) for result in answer["results"]]
    assert [index for index, _ in read] == order(service, user=user, candidates=service.items[:6])
    history = jinja2.Template("{% for one in feedback %}{{ one.Item.ItemId }}\n{% endfor %}")
    feedback = [Entity(Item=Entity(ItemId=item), FeedbackType="buy") for item in service.items[6:9]]
    body = {"model": "trsr", "query": history.render(feedback=feedback), "documents": documents}
    answer = service.post("/v1/rerank", body).json()
    assert answer["meta"]["query_read_as"] == "history"


def test_text_embeddings_inference_is_spoken_where_there_are_texts(service: Served) -> None:
    body = {"query": "Likes benches.", "texts": DOCUMENTS, "return_text": True, "truncate": True}
    results = service.post("/rerank", body).json()
    assert [result["text"] for result in results] == [DOCUMENTS[result["index"]] for result in results]
    raw = service.post("/rerank", body | {"raw_scores": True}).json()
    assert [one["index"] for one in raw] == [one["index"] for one in results]
    for one, odds in zip(results, raw, strict=True):
        assert 1 / (1 + math.exp(-odds["score"])) == pytest.approx(one["score"], abs=1e-6)
    refused = service.post("/rerank", {"query": "x", "texts": []})
    assert refused.status_code == 400
    assert refused.json()["error_type"] == "empty"
    plain = service.post("/rerank", {"query": "x", "documents": DOCUMENTS}).json()
    assert len(plain["results"]) == 3
    told = service.client.get("/info").json()
    assert told["max_client_batch_size"] == service.engine.limits.candidates


def test_vllm_scores_one_to_many_and_pairs_in_the_order_given(service: Served) -> None:
    texts = ["Likes benches.", "Likes pans.", "Likes bags."]
    many = service.post("/v1/score", {"model": "m", "text_1": texts[0], "text_2": DOCUMENTS}).json()
    assert [one["index"] for one in many["data"]] == [0, 1, 2]
    pairs = service.post("/v1/score", {"text_1": texts, "text_2": DOCUMENTS}).json()
    assert pairs["data"][0]["score"] == pytest.approx(many["data"][0]["score"], abs=1e-6)
    assert pairs["usage"]["total_tokens"] > 0
    single = service.post("/score", {"text_1": texts[0], "text_2": DOCUMENTS[0]}).json()
    assert single["data"][0]["score"] == pytest.approx(many["data"][0]["score"], abs=1e-6)
    refused = service.post("/v1/score", {"text_1": texts[:2], "text_2": DOCUMENTS})
    assert refused.status_code == 400
    assert refused.json()["error"]["type"] == "BadRequestError"


def test_the_model_is_listed(service: Served) -> None:
    listed = service.client.get("/v1/models").json()
    assert [model["id"] for model in listed["data"]] == [service.engine.recommender.config.name]
