"""The shapes that other people's stacks speak: Cohere, Jina, vLLM, text-embeddings-inference, OpenAI."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Annotated, Any, Final, Literal, TypeVar

import numpy as np
from fastapi import APIRouter, Body
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import logit

from trsr import __version__
from trsr.errors import UnknownUser
from trsr.records import ITEM
from trsr.scorer import ItemLike
from trsr.serve.door import Refusal
from trsr.serve.engine import Answer, Asked, Engine

T = TypeVar("T")
Answered = Callable[[Awaitable[T]], Awaitable[T]]

_USER: Final = re.compile(r"\s*user:\s*(?P<user>\S.*?)\s*", re.IGNORECASE)
_TEXT: Final = "text"
_IDS: Final = ("id", ITEM)
_CLOSEST: Final = 1e-7
"""How near to 0 and 1 a probability may be where its logit is asked for."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True, frozen=True)


Document = str | dict[str, Any]


class RerankBody(_Body):
    """Cohere's, Jina's and vLLM's request, with a known user or a history beside the query."""

    model: str | None = None
    query: str = ""
    documents: list[Document] = Field(min_length=1)
    top_n: int | None = Field(None, ge=0)
    top_k: int | None = Field(None, ge=0)
    return_documents: bool | None = None
    rank_fields: list[str] | None = None
    user: str | None = None
    history: list[Document] | None = None


class TextsBody(_Body):
    """The request of text-embeddings-inference."""

    query: str
    texts: list[str] = Field(min_length=1)
    raw_scores: bool = False
    return_text: bool = False


class ScoreBody(_Body):
    """vLLM's request: one text and several, or pairs."""

    model: str | None = None
    text_1: str | list[str]
    text_2: str | list[Document]


class Documents:
    """Finds in the catalogue, or puts into its form, what others call a document, a query or an item."""

    def __init__(self, engine: Engine) -> None:
        self._catalogue = engine.recommender.catalogue
        self._most = engine.limits.text
        self._title = self._catalogue.fields[0]

    def require_short(self, text: str | None) -> None:
        """Refuse a text that is longer than the service takes."""
        if text is not None and len(text) > self._most:
            message = f"a text may have {self._most:,} characters, got {len(text):,}; cut it before"
            raise Refusal(422, "invalid", message)

    def item(self, value: Document) -> ItemLike:
        """Read an item of the service's own API: an id, or an object of text fields with or without an id."""
        if isinstance(value, str):
            return value
        return self._item_of(value, None)

    def document(self, value: Document, fields: Sequence[str] | None = None) -> ItemLike:
        """Read what others call a document: an id or a title of the catalogue, or any text, or an object.

        Of an object only `fields` are read, where they are given.
        """
        return self._item_of_text(value) if isinstance(value, str) else self._item_of(value, fields)

    def query(self, text: str) -> tuple[Asked, Literal["user", "history", "profile"]]:
        """Read what others call a query: ``user:ID``, or items one a line, or else a profile in words."""
        self.require_short(text)
        if named := _USER.fullmatch(text):
            return Asked(user=named["user"]), "user"
        lines = [line.strip().removeprefix("- ") for line in text.splitlines() if line.strip()]
        items = [self._item_of_text(line) for line in lines]
        if any(isinstance(item, str) for item in items):
            return Asked(history=items), "history"
        return Asked(history=(), summary=text.strip()), "profile"

    def _item_of_text(self, text: str) -> ItemLike:
        self.require_short(text)
        found = text if text in self._catalogue else self._titles.get(text.strip())
        return {self._title: text} if found is None else found

    def _item_of(self, value: dict[str, Any], fields: Sequence[str] | None) -> ItemLike:
        known = {
            name: str(text)
            for name, text in value.items()
            if name in self._catalogue.available and text is not None and (fields is None or name in fields)
        }
        for text in known.values():
            self.require_short(text)
        item_id = next((str(value[name]) for name in _IDS if value.get(name) is not None), "")
        if item_id in self._catalogue:
            return item_id
        if not known and value.get(_TEXT) is not None:
            found = self._item_of_text(str(value[_TEXT]))
            if isinstance(found, str):
                return found
            known = dict(found)
        if not known:
            message = (
                f"an object must have an id of the catalogue, `text`, or one of its fields "
                f"({', '.join(self._catalogue.available)})"
            )
            raise Refusal(422, "invalid", message)
        return known | ({ITEM: item_id} if item_id else {})

    @cached_property
    def _titles(self) -> dict[str, str]:
        """Items by their titles, where only one has it."""
        found: dict[str, str] = {}
        twice = set()
        for item_id in self._catalogue.ids:
            title = self._catalogue.item(item_id).fields.get(self._title, "").strip()
            if title in found:
                twice.add(title)
            found[title] = item_id
        return {title: item_id for title, item_id in found.items() if title and title not in twice}


class _Desk:
    """Reads what others ask, and writes what they read; `answered` waits for the engine and tells errors."""

    def __init__(self, engine: Engine, answered: Answered[Any]) -> None:
        self._engine = engine
        self._answered = answered
        self._documents = Documents(engine)
        self.model = engine.recommender.config.name

    async def rerank(self, body: RerankBody, version: str) -> dict[str, Any]:
        asked, read_as = _who(body, self._documents)
        candidates = [self._documents.document(each, body.rank_fields) for each in body.documents]
        answer, warning = await self._ranked(asked, candidates)
        most = body.top_n or body.top_k or None
        scored = answer.scored
        results: list[dict[str, Any]] = [
            {"index": at, "relevance_score": float(scored.scores[at])} for at in answer.order()[:most]
        ]
        if body.return_documents or (body.return_documents is None and version == "1"):
            for result in results:
                given = body.documents[result["index"]]
                text = answer.items[result["index"]].fields
                named = (
                    {_TEXT: given} if isinstance(given, str) else {_TEXT: ", ".join(text.values())} | given
                )
                result["document"] = named
        return {
            "id": str(uuid.uuid4()),
            "model": self.model,
            "results": results,
            "usage": {"prompt_tokens": scored.tokens, "total_tokens": scored.tokens},
            "meta": _meta(answer, version, read_as, warning),
        }

    async def texts(self, body: TextsBody) -> list[dict[str, Any]]:
        asked, _ = self._documents.query(body.query)
        answer, _ = await self._ranked(asked, [self._documents.document(each) for each in body.texts])
        scores = answer.scored.scores
        if body.raw_scores:
            scores = logit(np.clip(scores, _CLOSEST, 1 - _CLOSEST))
        return [
            {"index": at, "score": float(scores[at])} | ({"text": body.texts[at]} if body.return_text else {})
            for at in answer.order()
        ]

    async def score(self, body: ScoreBody) -> tuple[list[float], int]:
        """Score one text with several, or texts with texts of the same number; and count their tokens."""
        first = [body.text_1] if isinstance(body.text_1, str) else body.text_1
        second: Sequence[Document] = [body.text_2] if isinstance(body.text_2, str) else body.text_2
        if not first or not second or len(first) not in (1, len(second)):
            message = f"text_1 must be one text, or as many as text_2: got {len(first)} and {len(second)}"
            raise Refusal(422, "invalid", message)
        items = [self._documents.document(each) for each in second]
        asked = [self._documents.query(text)[0] for text in first]
        offered = [items] if len(asked) == 1 else [[item] for item in items]
        pairs = zip(asked, offered, strict=True)
        answers = [each for each, _ in await asyncio.gather(*(self._ranked(*pair) for pair in pairs))]
        scores = [float(score) for each in answers for score in each.scored.scores]
        return scores, sum(each.scored.tokens for each in answers)

    async def _ranked(self, asked: Asked, candidates: Sequence[ItemLike]) -> tuple[Answer, str | None]:
        """Rank for a user, or, where nobody knows the user, as for a newcomer, with a warning."""
        asked = replace(asked, candidates=candidates)
        try:
            return await self._answered(self._engine.rank(asked)), None
        except Refusal as refusal:
            if not isinstance(refusal.__cause__, UnknownUser):
                raise
            newcomer = replace(asked, user=None, history=(), summary="")
            warning = f"no user {asked.user!r} is known: ranked as for a newcomer"
            return await self._answered(self._engine.rank(newcomer)), warning


def router(engine: Engine, answered: Answered[Any]) -> APIRouter:
    """Make the paths of other people's APIs; `answered` waits for the engine and tells its errors."""
    routes = APIRouter(tags=["other APIs"])
    desk = _Desk(engine, answered)

    @routes.post("/v2/rerank")
    async def rerank_v2(body: RerankBody) -> dict[str, Any]:
        """Rerank as Cohere's API of version 2."""
        return await desk.rerank(body, "2")

    @routes.post("/v1/rerank")
    async def rerank_v1(body: RerankBody) -> dict[str, Any]:
        """Rerank as Cohere's API of version 1, Jina's and vLLM's."""
        return await desk.rerank(body, "1")

    @routes.post("/rerank", response_model=None)
    async def rerank_plain(
        body: Annotated[TextsBody | RerankBody, Body()],
    ) -> list[dict[str, Any]] | dict[str, Any]:
        """Rerank as text-embeddings-inference where the body has `texts`, else as `/v1/rerank`."""
        return await (desk.rerank(body, "1") if isinstance(body, RerankBody) else desk.texts(body))

    @routes.post("/v1/score")
    @routes.post("/score", include_in_schema=False)
    async def score(body: ScoreBody) -> dict[str, Any]:
        """Score pairs of texts as vLLM: a user's query, and documents."""
        scores, tokens = await desk.score(body)
        return {
            "id": f"score-{uuid.uuid4().hex}",
            "object": "list",
            "created": int(time.time()),
            "model": desk.model,
            "data": [{"index": at, "object": "score", "score": score} for at, score in enumerate(scores)],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0},
        }

    @routes.get("/v1/models")
    async def models() -> dict[str, Any]:
        """List the one model, as OpenAI's API."""
        card = {"id": desk.model, "object": "model", "created": 0, "owned_by": "trsr"}
        return {"object": "list", "data": [card]}

    @routes.get("/info")
    async def info() -> dict[str, Any]:
        """Tell of the model and the limits, as text-embeddings-inference."""
        prompt = engine.recommender.scorer.ranker.prompt
        return {
            "model_id": desk.model,
            "model_type": {"reranker": {"id2label": {"0": "yes"}, "label2id": {"yes": 0}}},
            "max_input_length": prompt.prompting.max_tokens,
            "max_client_batch_size": engine.limits.candidates,
            "max_concurrent_requests": engine.limits.queue,
            "auto_truncate": True,
            "version": __version__,
        }

    return routes


def _who(body: RerankBody, documents: Documents) -> tuple[Asked, str]:
    """Say for whom: the fields of ours go before the query."""
    if body.history is not None:
        return Asked(user=body.user, history=[documents.document(each) for each in body.history]), "history"
    if body.user is not None:
        return Asked(user=body.user), "user"
    return documents.query(body.query)


def _meta(answer: Answer, version: str, read_as: str, warning: str | None) -> dict[str, Any]:
    scored = answer.scored
    warnings = [*answer.warnings, *([warning] if warning else [])]
    return {
        "api_version": {"version": version},
        "billed_units": {"search_units": 1},
        "tokens": {"input_tokens": scored.tokens},
        "cached_tokens": scored.tokens_reused,
        "query_read_as": read_as,
        "unread_events": answer.unread,
    } | ({"warnings": warnings} if warnings else {})


def error_of(path: str, refusal: Refusal) -> tuple[int, dict[str, Any]] | None:
    """Say what an API of others answers when something is wrong; None for the service's own paths."""
    status = 400 if refusal.status == 422 else refusal.status
    if path in ("/v1/rerank", "/v2/rerank"):
        return status, {"message": refusal.message, "detail": refusal.message}
    if path in ("/rerank", "/info"):
        kinds = {400: "empty", 413: "validation", 424: "backend", 429: "overloaded"}
        status = {422: 400, 503: 424}.get(refusal.status, refusal.status)
        kind = kinds.get(status, refusal.kind)
        return status, {"error": refusal.message, "error_type": kind, "message": refusal.message}
    if path in ("/v1/score", "/score", "/v1/models"):
        kind = "BadRequestError" if status == 400 else refusal.kind
        return status, {"error": {"message": refusal.message, "type": kind, "param": None, "code": status}}
    return None
