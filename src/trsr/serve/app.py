"""The service: its own API, and what it answers when something is wrong."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

import uvicorn
from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from trsr import __version__
from trsr.recommender import Recommender
from trsr.scorer import Explanation, ItemLike, Voice
from trsr.serve import page, rerank, user_routes
from trsr.serve import schemas as forms
from trsr.serve.answering import FAILURES, Answering
from trsr.serve.door import Door, Figures, Keys, Refusal, is_page
from trsr.serve.engine import Answer, Asked, Engine, Limits
from trsr.serve.profiles import line

_STOP_S: Final = 60
"""Seconds that requests under way have when the process is told to stop."""


class Json(JSONResponse):
    """JSON in plain ASCII: whatever stands in a text, it can be sent."""

    def render(self, content: Any) -> bytes:
        """Write the bytes."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def create_app(engine: Engine, figures: Figures, keys: Keys | None = None) -> FastAPI:
    """Make the application around an engine.

    Parameters
    ----------
    engine
        Is started and stopped with the application.
    figures
        What is counted.
    keys
        Who may come in; None for everybody on this machine.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await engine.start()
        try:
            yield
        finally:
            await engine.stop()

    app = FastAPI(
        title="TRSR",
        version="1",
        description="Ranks items for a user from text, with profiles that can be read, edited and forgotten.",
        lifespan=lifespan,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        default_response_class=Json,
        strict_content_type=False,  # the door has looked
    )
    answered = Answering(engine, figures)
    app.include_router(_ranking(engine, answered))
    app.include_router(user_routes.router(engine, answered))
    app.include_router(_watching(engine, figures))
    app.include_router(rerank.router(engine, answered))
    app.include_router(page.router(engine, answered))
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(Exception, _unforeseen)
    app.add_middleware(Door, limits=engine.limits, keys=keys, figures=figures, render=render)
    figures.watch("trsr_requests_waiting", "Requests that wait for the model.", lambda: engine.waiting)
    figures.watch(
        "trsr_summaries_written", "Summaries written in the background.", lambda: engine.state.written
    )
    figures.watch(
        "trsr_summaries_in_trouble", "1 while summaries can't be written.", lambda: bool(engine.state.trouble)
    )
    figures.watch(
        "trsr_summaries_failing",
        "Users whose summary could not be written; tried again.",
        lambda: len(engine.state.failing),
    )
    figures.watch(
        "trsr_prefix_bytes",
        "Bytes of the prefixes held.",
        lambda: engine.recommender.scorer.memory.held_bytes,
    )
    return app


# -- Ranking -------------------------------------------------------------------------------------------------


def _ranking(engine: Engine, answered: Answering) -> APIRouter:
    routes = APIRouter(prefix="/v1", tags=["ranking"], responses=FAILURES)

    async def ranked(asked: Asked, k: int | None) -> forms.RankOut:
        answer = await answered(engine.rank(asked))
        return _ranking_out(asked, answer, k)

    async def each(calls: Sequence[Callable[[], Awaitable[forms.RankOut]]]) -> forms.BatchOut:
        async def one(call: Callable[[], Awaitable[forms.RankOut]]) -> forms.RankOut | forms.Failed:
            try:
                return await call()
            except Refusal as refusal:
                return _failed(refusal)

        return forms.BatchOut(results=[*await asyncio.gather(*map(one, calls))])

    @routes.post("/rank")
    async def rank(body: forms.RankAsked) -> forms.RankOut:
        """Rank candidates for a known user or a history."""
        return await ranked(_asked(engine, body, body.candidates), body.k)

    @routes.post("/rank/batch")
    async def rank_batch(body: forms.BatchOfRank) -> forms.BatchOut:
        """Rank for several users, who share forward passes."""
        return await each([lambda ask=ask: rank(ask) for ask in body.requests])  # type: ignore[misc]

    @routes.post("/recommend")
    async def recommend(body: forms.RecommendAsked) -> forms.RankOut:
        """Recommend the best of the whole catalogue: retrieved, read by the language model, fused."""
        asked = replace(_asked(engine, body, None), wanted=body.wanted)
        return _ranking_out(asked, await answered(engine.rank(asked)), body.k)

    @routes.post("/recommend/batch")
    async def recommend_batch(body: forms.BatchOfRecommend) -> forms.BatchOut:
        """Recommend to several users."""
        return await each([lambda ask=ask: recommend(ask) for ask in body.requests])  # type: ignore[misc]

    @routes.post("/explain")
    async def explain(body: forms.ExplainAsked) -> forms.ExplainOut:
        """Say what the ranker and its companions said of one item, and what the model's say rests on."""
        asked = _asked(engine, body, [body.item])
        told, answer = await answered(engine.explain(asked, catalogue=body.catalogue))
        return _explained(engine, body, told, answer)

    return routes


def _explained(
    engine: Engine, body: forms.ExplainAsked, told: Explanation, answer: Answer
) -> forms.ExplainOut:
    recommender = engine.recommender
    [item] = answer.items
    return forms.ExplainOut(
        user=body.user,
        item=item.id,
        line=line(recommender.catalogue, item.id) or ", ".join(item.fields.values()),
        score=told.score,
        p_yes=told.p_yes,
        ranked_by=recommender.scorer.ranked_by,
        summary=answer.scored.summary,
        p_yes_without_summary=told.without_summary,
        recent_items=[
            forms.ShownOut(item=name, line=line(recommender.catalogue, name), p_yes_without=p_yes)
            for name, p_yes in told.without_item
        ],
        systems=_voices(told.voices),
        edited=answer.edited,
        unread_events=answer.unread,
        warnings=[*answer.warnings],
    )


def _voices(voices: Sequence[Voice]) -> list[forms.VoiceOut]:
    return [forms.VoiceOut(system=voice.system, said=voice.said, adds=voice.adds) for voice in voices]


def _asked(
    engine: Engine,
    who: forms.Who,
    candidates: Sequence[str | forms.Texts] | None,
) -> Asked:
    if who.user is None and who.history is None and who.summary is None:
        raise Refusal(422, "invalid", "give a user, a history or a summary")
    read = rerank.Documents(engine)
    history = None if who.history is None else [read.item(each) for each in who.history]
    offered: list[ItemLike] | None = None if candidates is None else [read.item(each) for each in candidates]
    read.require_short(who.summary)
    return Asked(who.user, history, who.summary, offered)


def _ranking_out(asked: Asked, answer: Answer, k: int | None) -> forms.RankOut:
    scored, found = answer.scored, answer.found
    order = answer.order()[:k]
    return forms.RankOut(
        user=asked.user,
        summary=scored.summary,
        edited=answer.edited,
        unread_events=answer.unread,
        items=[
            forms.RankedOut(
                item=answer.items[at].id,
                rank=rank,
                score=float(scored.scores[at]),
                p_yes=float(scored.p_yes[at]),
                index=at,
                systems=_voices(found.items[at].voices) if found else [],
            )
            for rank, at in enumerate(order, start=1)
        ],
        usage=forms.Usage(prompt_tokens=scored.tokens, reused_tokens=scored.tokens_reused),
        read=found.read if found else len(answer.items),
        left_out=found.unread if found else 0,
        seconds=dict(found.seconds) if found else {},
        warnings=[*answer.warnings],
    )


# -- Watching ------------------------------------------------------------------------------------------------


def _watching(engine: Engine, figures: Figures) -> APIRouter:
    routes = APIRouter(tags=["watching"])

    @routes.get("/health")
    async def health() -> forms.HealthOut:
        """Say that the process lives."""
        return forms.HealthOut(status="ok", version=__version__)

    @routes.get("/ready", responses={503: {"model": forms.ReadyOut}})
    async def ready(response: Response) -> forms.ReadyOut:
        """Say whether requests are answered: 503 before the model is there, and when it goes."""
        response.status_code = 200 if engine.is_ready else 503
        recommender = engine.recommender
        return forms.ReadyOut(
            ready=engine.is_ready,
            ranked_by=recommender.scorer.ranked_by,
            items=len(recommender.catalogue),
            users=recommender.knows_users,
            trouble=engine.state.trouble,
        )

    @routes.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Give the figures to Prometheus."""
        return Response(generate_latest(figures.registry), media_type=CONTENT_TYPE_LATEST)

    return routes


# -- What is wrong -------------------------------------------------------------------------------------------


def render(path: str, refusal: Refusal) -> Response:
    """Write a refusal in the form of the API that a path belongs to."""
    if is_page(path):
        return page.refused(refusal)
    status, content = rerank.error_of(path, refusal) or (refusal.status, _failed(refusal).model_dump())
    headers = {}
    if refusal.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, round(refusal.retry_after_s)))
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Json(content, status, headers)


def _failed(refusal: Refusal) -> forms.Failed:
    error = forms.ErrorOut(
        type=refusal.kind, message=refusal.message, status=refusal.status, details=[*refusal.details]
    )
    return forms.Failed(error=error)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return render(request.url.path, error)


def _malformed(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    # What was given is not repeated: it may be long, or not for everybody.
    found = [{"where": ".".join(map(str, each["loc"])), "what": each["msg"]} for each in error.errors()][:10]
    message = "; ".join(f"{each['where']}: {each['what']}" for each in found)
    return render(request.url.path, Refusal(422, "invalid", message, details=found))


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return render(request.url.path, Refusal(error.status_code, "http", str(error.detail)))


def _unforeseen(request: Request, error: Exception) -> Response:
    message = f"{type(error).__name__}; the service's log has more"
    return render(request.url.path, Refusal(500, "internal", message))


# -- The process ---------------------------------------------------------------------------------------------


def run(
    recommender: Recommender,
    host: str,
    port: int,
    limits: Limits,
    keys: Keys | None,
    say: Callable[[str], None],
) -> None:
    """Serve until SIGTERM or SIGINT: then nobody new comes in, and what was accepted is answered.

    Raises OSError when the address can't be had.
    """
    figures = Figures()
    engine = Engine(recommender, limits, figures.batch.observe)
    app = create_app(engine, figures, keys)
    listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    # Connections inherit it. Without it, an answer's body waits some 40 ms for its head to be acknowledged.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    settings = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,  # paths name users
        server_header=False,
        timeout_graceful_shutdown=_STOP_S,
        limit_concurrency=None,
    )
    # Models and catalogues live as long as the process: the collector need not look at them again and again.
    gc.collect()
    gc.freeze()
    with listening:
        shown = f"[{host}]" if ":" in host else host
        say(f"http://{shown}:{listening.getsockname()[1]} serves {recommender.config.name}; Ctrl-C ends it")
        uvicorn.Server(settings).run(sockets=[listening])
    if not engine.is_idle:  # a server of summaries is being waited for; what is noted is on the disk
        os._exit(0)
