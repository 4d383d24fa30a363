"""The page: people find a user, read and correct what the service thinks of one, try *what if*, and delete.

Every form is sent and every link is followed without any script; with HTMX, which the package brings, parts
of a page are exchanged in place. What is changed ends in a redirect, so that a page can be loaded again.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlencode

from fastapi import APIRouter, Query
from jinja2 import Environment
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from trsr import __version__
from trsr.config.summary import KeyphraseWriter, TableWriter
from trsr.recommending import Wanted
from trsr.report import words
from trsr.report.bill import BillLine, read_bill
from trsr.serve.answering import Answering
from trsr.serve.door import COOKIE, Refusal
from trsr.serve.engine import Answer, Asked, Engine
from trsr.serve.profiles import Titles, growth_of, line
from trsr.serve.rerank import Documents
from trsr.serve.user_routes import User, profile_of
from trsr.stages.summarize import BILL
from trsr.summarize.cost import Bill
from trsr.summarize.forecast import why_no_model
from trsr.users import UserRow

REGRET_S: Final = 60
"""Seconds in which a deletion can be taken back."""
_USERS_FOUND: Final = 20
_ITEMS_FOUND: Final = 8
_ADDED: Final = Query([])
_MOST_FIELDS: Final = 10_000
_LONGEST_NAME: Final = 1000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_DAY: Final = 250_000_000_000
"""Seconds; a date of the year 9892."""
_WHOLE: Final = "catalogue"
_BEST: Final = 20
"""Items shown of the whole catalogue."""
_TEMPLATES: Final = Path(__file__).parent / "templates"
_FILES: Final = {
    "look.css": Path(words.__file__).parent / "templates" / "page.css",  # as all pages
    "page.css": _TEMPLATES / "page.css",
    "htmx.min.js": _TEMPLATES / "htmx.min.js",
}
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",  # it shows people
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Ranked:
    """An item at its place, and how far it rose (or fell, below 0) from where it stood; None: it is new."""

    rank: int
    item: str
    line: str
    score: float
    p_yes: float
    rose: int | None


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What was tried: the changed text and items, and the order that they give."""

    summary: str
    without: frozenset[int]
    added: tuple[str, ...]
    anew: bool
    ranked: tuple[Ranked, ...] = ()
    told: str = ""
    warnings: tuple[str, ...] = ()
    problem: str = ""


def router(engine: Engine, answered: Answering) -> APIRouter:
    """Make the routes of the page."""
    routes, page = APIRouter(include_in_schema=False), _Page(engine, answered)
    _looking(routes, page)
    _changing(routes, page)
    _entering(routes, page)
    return routes


# -- Looking -------------------------------------------------------------------------------------------------


def _looking(routes: APIRouter, page: _Page) -> None:
    engine, answered = page.engine, page.answered

    @routes.get("/")
    async def root() -> Response:
        return _go("/page")

    @routes.get("/page")
    async def home(request: Request, begins: str = Query("", max_length=1000), said: str = "") -> Response:
        found = await answered(engine.find(begins, _USERS_FOUND)) if engine.recommender.knows_users else []
        return await page.home(request, begins=begins, found=found, said=said)

    @routes.get("/page/user")
    async def user(request: Request, user: str = User, said: str = "", of: str = "") -> Response:
        return await page.user(request, await answered(engine.user(user)), of, said=said)

    @routes.post("/page/what-if")
    async def what_if(request: Request) -> Response:
        form = await _form(request)
        row = await answered(engine.user(_one(form, "user")))
        return await page.user(request, row, _text(form, "of"), tried=form)

    @routes.get("/page/items")
    async def items(
        request: Request, words: str = Query("", max_length=1000), add: list[str] = _ADDED
    ) -> Response:
        catalogue = engine.recommender.catalogue
        known = [item for item in dict.fromkeys(add) if item in catalogue]
        new = [item for item in await page.like(words) if item not in known]
        return page.show(request, "items", added=page.lines(known), found=page.lines(new), words=words)

    @routes.get("/page/explain")
    async def explain(
        request: Request, user: str = User, item: str = Query(max_length=1000), of: str = ""
    ) -> Response:
        asked = Asked(user, candidates=[item])
        told, answer = await answered(engine.explain(asked, catalogue=of == _WHOLE or None))
        catalogue = engine.recommender.catalogue
        recent = [(line(catalogue, name), p_yes) for name, p_yes in told.without_item]
        return page.show(
            request,
            "explain",
            user=user,
            of=of,
            line=line(catalogue, item),
            told=told,
            answer=answer,
            recent=recent,
        )


# -- Changing ------------------------------------------------------------------------------------------------


def _changing(routes: APIRouter, page: _Page) -> None:
    engine, answered = page.engine, page.answered

    @routes.post("/page/change/edit")
    async def edit(request: Request) -> Response:
        form = await _form(request)
        user, text = _one(form, "user"), _text(form, "summary")
        Documents(engine).require_short(text)
        await answered(engine.edit(user, text), timed=False)
        return _back(form, "edited")

    @routes.post("/page/change/written")
    async def written(request: Request) -> Response:
        form = await _form(request)
        await answered(engine.edit(_one(form, "user"), None), timed=False)
        return _back(form, "written")

    @routes.post("/page/change/rewrite")
    async def rewrite(request: Request) -> Response:
        form = await _form(request)
        user, block, text = _one(form, "user"), _one(form, "block"), _text(form, "text") or None
        Documents(engine).require_short(text)
        if not block.isdecimal():
            raise Refusal(422, "invalid", f"block must be a number, got {block[:40]!r}")
        await answered(engine.rewrite(user, int(block), text, fresh="fresh" in form), timed=False)
        return _back(form, "rewritten")

    @routes.post("/page/change/undo")
    async def undo(request: Request) -> Response:
        form = await _form(request)
        await answered(engine.undo(_one(form, "user")), timed=False)
        return _back(form, "undone")

    @routes.post("/page/change/leave")
    async def leave(request: Request) -> Response:
        user = _one(await _form(request), "user")
        await answered(engine.leave(user, REGRET_S), timed=False)
        return _go("/page", said="leaving")

    @routes.post("/page/change/stay")
    async def stay(request: Request) -> Response:
        form = await _form(request)
        await answered(engine.stay(_one(form, "user")), timed=False)
        return _back(form, "stayed")

    @routes.post("/page/change/delete")
    async def delete(request: Request) -> Response:
        user = _one(await _form(request), "user")
        removed = await answered(engine.forget(user), timed=False)
        return page.show(request, "gone", user=user, removed=removed)


# -- Coming in -----------------------------------------------------------------------------------------------


def _entering(routes: APIRouter, page: _Page) -> None:
    @routes.get("/page/static/{name}")
    async def static(name: str) -> Response:
        if name not in _FILES:
            raise Refusal(404, "http", "Not Found")
        return FileResponse(
            _FILES[name], headers={"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
        )

    @routes.get("/page/login")
    async def login(request: Request) -> Response:
        return _login(200)

    @routes.post("/page/login")
    async def come_in(request: Request) -> Response:
        # Whether it is a key is for the door to say, with the next request.
        answer = _go("/page")
        is_safe = request.url.scheme == "https"
        key = _one(await _form(request), "key").strip()
        answer.set_cookie(COOKIE, key, path="/page", secure=is_safe, httponly=True, samesite="strict")
        return answer

    @routes.post("/page/logout")
    async def leave(request: Request) -> Response:
        answer = _go("/page/login")
        answer.delete_cookie(COOKIE, path="/page", httponly=True, samesite="strict")
        return answer


def refused(refusal: Refusal) -> Response:
    """Show why a page isn't: to those who have no key, how they come in."""
    if refusal.status == 401:
        return _login(401)
    return _shown("refused", refusal.status, name="TRSR", role="", refusal=refusal)


def _login(status: int) -> Response:
    return _shown("login", status, name="TRSR", role="")


# -- Showing -------------------------------------------------------------------------------------------------


class _Page:
    """What the pages of one service show."""

    def __init__(self, engine: Engine, answered: Answering) -> None:
        self.engine = engine
        self.answered = answered
        self._recommender = engine.recommender

    def show(self, request: Request, template: str, **content: Any) -> Response:
        """Show a page to whoever asks."""
        has_key = COOKIE in request.cookies
        name = self._recommender.config.name
        return _shown(template, 200, name=name, role=request.scope["role"], has_key=has_key, **content)

    async def home(self, request: Request, **content: Any) -> Response:
        """Show the users that were found, what the run has measured and what it cost."""
        recommender, engine = self._recommender, self.engine
        leaving = await self.answered(engine.leaving()) if recommender.knows_users else {}
        return self.show(
            request,
            "home",
            leaving=leaving,
            now=time.time(),
            state=engine.state,
            recommender=recommender,
            metrics=self._metrics(),
            bill=self._bill(),
            no_model=why_no_model(recommender.config),
            spent=Bill.of("", engine.spent, 0, None, recommender.config.summary.price),
            **content,
        )

    async def user(
        self,
        request: Request,
        row: UserRow,
        of: str,
        said: str = "",
        tried: Mapping[str, list[str]] | None = None,
    ) -> Response:
        """Show a user's profile and ranking, of the run's candidates or the catalogue, and what was tried."""
        engine = self.engine
        # Users who came after the run have no frozen candidates.
        of = "" if row.candidates and of != _WHOLE else _WHOLE
        asked = Asked(row.user_id, wanted=Wanted(_BEST)) if of else Asked(row.user_id)
        answer, problem = await self._rank(asked)
        ranked = self._ranked(answer) if answer else ()
        what_if = self._tried(row, tried or {})
        if tried is not None and answer is not None:
            what_if = await self._try(row, asked, what_if, ranked)
        profile = profile_of(engine, row)
        writer = self._recommender.config.summary.writer
        return self.show(
            request,
            "user",
            row=row,
            profile=profile,
            growth=growth_of(profile.blocks, self._recommender.config.summary.paradigm),
            paradigm=self._recommender.config.summary.paradigm,
            shown=self._recommender.config.prompt.recent_items,
            answer=answer,
            ranked=ranked,
            problem=problem,
            of=of,
            what_if=what_if,
            is_tried=tried is not None,
            added=self.lines(what_if.added),
            found=[],
            words="",
            can_undo=engine.can_undo(row),
            asks_model=why_no_model(self._recommender.config) is None,
            takes_text=not isinstance(writer, KeyphraseWriter | TableWriter),
            regret_s=REGRET_S,
            said=said,
        )

    def lines(self, items: Sequence[str]) -> list[tuple[str, str]]:
        """Give items with their titles."""
        return [(item, line(self._recommender.catalogue, item)) for item in items]

    async def like(self, text: str) -> list[str]:
        """Find items by words of their titles, beside the event loop."""
        return await asyncio.to_thread(lambda: self._titles.find(text, _ITEMS_FOUND))

    @cached_property
    def _titles(self) -> Titles:
        return Titles(self._recommender.catalogue)

    async def _rank(self, asked: Asked) -> tuple[Answer | None, str]:
        """Rank, or say why that can't be: the profile is shown all the same."""
        try:
            Documents(self.engine).require_short(asked.summary)
            return await self.answered(self.engine.rank(asked)), ""
        except Refusal as refusal:
            return None, refusal.message

    def _ranked(self, answer: Answer, before: Sequence[Ranked] = ()) -> tuple[Ranked, ...]:
        stood = {each.item: each.rank for each in before}
        scored, found = answer.scored, []
        for rank, at in enumerate(answer.order(), start=1):
            item = answer.items[at].id
            found.append(
                Ranked(
                    rank,
                    item,
                    line(self._recommender.catalogue, item),
                    float(scored.scores[at]),
                    float(scored.p_yes[at]),
                    stood[item] - rank if item in stood else None,
                )
            )
        return tuple(found)

    def _tried(self, row: UserRow, form: Mapping[str, list[str]]) -> WhatIf:
        """Read what is to be tried; nothing is changed before somebody does."""
        without = frozenset(int(place) for place in form.get("without", ()) if place.isdecimal())
        added = tuple(
            item for item in dict.fromkeys(form.get("add", ())) if item in self._recommender.catalogue
        )
        summary = _text(form, "summary") if "summary" in form else row.shown or ""
        return WhatIf(summary, without, added, "anew" in form)

    async def _try(self, row: UserRow, asked: Asked, what_if: WhatIf, before: Sequence[Ranked]) -> WhatIf:
        history = [item for place, item in enumerate(row.history) if place not in what_if.without]
        asked = replace(
            asked,
            history=[*history, *what_if.added],
            summary=None if what_if.anew else what_if.summary,
            candidates=None if asked.wanted else row.candidates,
        )
        answer, problem = await self._rank(asked)
        shared = (what_if.summary, what_if.without, what_if.added, what_if.anew)
        if answer is None:
            return WhatIf(*shared, problem=problem)
        return WhatIf(*shared, self._ranked(answer, before), answer.scored.summary, answer.warnings)

    def _metrics(self) -> dict[str, Any] | None:
        folder = self._recommender.folder
        if folder is None or not folder.metrics.exists():
            return None
        return _figures(json.loads(folder.metrics.read_text(encoding="utf-8")))

    def _bill(self) -> tuple[BillLine, ...]:
        folder = self._recommender.folder
        return () if folder is None else read_bill(folder.path / BILL)


def _figures(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Put ``metrics.json`` into a table: what the test users' rows say, best first."""
    rows = {name: found["test"] for name, found in metrics["systems"].items() if "test" in found}
    named = words.in_order(name for row in rows.values() for name in row["metrics"])
    most = {words.family(name): words.cutoff(name) for name in named}
    shown = [
        name
        for name in named
        if words.family(name) == "Recall" or words.cutoff(name) == most[words.family(name)]
    ]
    best = words.in_order(shown)[0] if shown else ""
    ordered = sorted(rows, key=lambda name: -rows[name]["metrics"].get(best, {"mean": 0.0})["mean"])
    return {
        "names": shown,
        "rows": [(name, rows[name]) for name in ordered],
        "users": max((row["users"] for row in rows.values()), default=0),
        "negatives": metrics["negatives"],
        "sampler": metrics["sampler"],
    }


# -- Forms and templates -------------------------------------------------------------------------------------


async def _form(request: Request) -> dict[str, list[str]]:
    """Read a form; what is wrong with it is for whoever needs a field."""
    body = (await request.body()).decode("utf-8", "replace")
    try:
        return parse_qs(body, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise Refusal(422, "invalid", f"the form can't be read: {error}") from error


def _one(form: Mapping[str, list[str]], name: str) -> str:
    value = form.get(name, [""])[0]
    if not value or len(value) > _LONGEST_NAME:
        raise Refusal(
            422, "invalid", f"the form must have a field {name!r} of 1 to {_LONGEST_NAME:,} characters"
        )
    return value


def _text(form: Mapping[str, list[str]], name: str) -> str:
    """Read a text as a person typed it: browsers send lines ended by two characters."""
    return form.get(name, [""])[0].replace("\r\n", "\n").strip()


def _back(form: Mapping[str, list[str]], said: str) -> Response:
    """Go back to a user's page, to the ranking that was looked at."""
    return _go("/page/user", user=_one(form, "user"), of=_text(form, "of"), said=said)


def _go(path: str, **asked: str) -> Response:
    return RedirectResponse(_url(path, **asked), 303)


def _url(path: str, **asked: str) -> str:
    given = urlencode({name: value for name, value in asked.items() if value})
    return f"{path}?{given}" if given else path


def _shown(template: str, status: int, **content: Any) -> Response:
    page = _environment().get_template(f"{template}.html.jinja").render(content)
    # What no browser could read, half a character, must not keep anybody from the rest.
    return HTMLResponse(page.encode("utf-8", "replace"), status, dict(_HEADERS))


@cache
def _environment() -> Environment:
    environment = words.environment(_TEMPLATES)
    environment.filters.update(day=_day, clock=_clock)
    environment.globals.update(url=_url, version=__version__)
    return environment


def _day(seconds: int) -> str:
    return f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%d}" if abs(seconds) < _LAST_DAY else ""


def _clock(seconds: float) -> str:
    return f"{_EPOCH + timedelta(seconds=int(seconds)):%H:%M:%S} UTC"
