"""The service's own API of users: events, profiles, deletion."""

from __future__ import annotations

import time
from datetime import UTC
from typing import Annotated, Final

from fastapi import APIRouter, Query

from trsr.serve import rerank
from trsr.serve import schemas as forms
from trsr.serve.answering import FAILURES, Answering, findings_out
from trsr.serve.engine import Engine
from trsr.serve.profiles import blocks_of, line, notes_of, sentences_of
from trsr.users import UserRow

User = Query(description="A user's id.", min_length=1, max_length=1000)
_LONGEST_REGRET_S: Final = 30 * 24 * 3600


def router(engine: Engine, answered: Answering) -> APIRouter:
    """Make the routes."""
    routes = APIRouter(prefix="/v1", tags=["users"], responses=FAILURES)
    _profiles(routes, engine, answered)
    _deletion(routes, engine, answered)

    @routes.post("/events", status_code=202)
    async def events(body: forms.EventsAsked) -> forms.EventsOut:
        """Append events. They are on the disk when this answers, and count at once; the summary follows.

        An event that is known (user, item and second) is left out: the same request can be sent again.
        """
        now = int(time.time())
        told = [(each.user, each.item, _seconds(each, now)) for each in body.events]
        rows, findings = await answered(engine.append(told), timed=False)
        dropped = sum(found.count for found in findings if found.action == "dropped")
        accepted = len(told) - dropped
        answered.figures.events.inc(max(0, accepted))
        return forms.EventsOut(
            accepted=accepted,
            users={row.user_id: row.unread for row in rows},
            findings=findings_out(findings),
        )

    return routes


def _profiles(routes: APIRouter, engine: Engine, answered: Answering) -> None:
    @routes.get("/profile")
    async def profile(user: str = User) -> forms.ProfileOut:
        """Read a user's history and summary, how it grew block by block, and what its sentences rest on."""
        return profile_of(engine, await answered(engine.user(user)))

    @routes.put("/profile")
    async def edit(body: forms.EditAsked, user: str = User) -> forms.ProfileOut:
        """Put a text in the place of the summary; it stays until it is taken away, whatever is written."""
        rerank.Documents(engine).require_short(body.summary)
        return profile_of(engine, await answered(engine.edit(user, body.summary), timed=False))

    @routes.delete("/profile")
    async def take_edit_away(user: str = User) -> forms.ProfileOut:
        """Take an edit away: the summary is what the writer wrote."""
        return profile_of(engine, await answered(engine.edit(user, None), timed=False))

    @routes.post("/profile/rewrite")
    async def rewrite(body: forms.RewriteAsked, user: str = User) -> forms.ProfileOut:
        """Write the summary again from a block on; an edit goes."""
        rerank.Documents(engine).require_short(body.text)
        call = engine.rewrite(user, body.block, body.text, fresh=body.fresh)
        return profile_of(engine, await answered(call, timed=False))

    @routes.post("/profile/undo")
    async def undo(user: str = User) -> forms.ProfileOut:
        """Take the last edit or rewriting back, as long as this process runs and nothing followed."""
        return profile_of(engine, await answered(engine.undo(user), timed=False))


def _deletion(routes: APIRouter, engine: Engine, answered: Answering) -> None:
    @routes.get("/users")
    async def find(
        begins: Annotated[str, Query(max_length=1000, description="How the ids begin.")] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 20,
    ) -> forms.UsersOut:
        """Find the first users by id, whose ids begin with a text."""
        return forms.UsersOut(users=[row.user_id for row in await answered(engine.find(begins, limit))])

    @routes.delete("/users")
    async def delete(
        user: str = User,
        after_s: Annotated[
            int,
            Query(
                ge=0,
                le=_LONGEST_REGRET_S,
                description="Seconds in which it can be taken back; the user is hidden at once.",
            ),
        ] = 0,
    ) -> forms.DeletedOut:
        """Delete a user: history, summaries, edits, answers, what a run folder shows; says what went."""
        if after_s:
            at = await answered(engine.leave(user, after_s), timed=False)
            return forms.DeletedOut(user=user, known=True, removed=[], leaves=at)
        removed = await answered(engine.forget(user), timed=False)
        return forms.DeletedOut(user=user, known=bool(removed), removed=removed)

    @routes.post("/users/delete")
    async def delete_many(body: forms.UsersAsked) -> forms.DeletedManyOut:
        """Delete several users."""
        return forms.DeletedManyOut(users=[await delete(user, 0) for user in body.users])

    @routes.post("/users/restore")
    async def restore(user: str = User) -> forms.ProfileOut:
        """Take a deletion back that isn't carried out yet."""
        return profile_of(engine, await answered(engine.stay(user), timed=False))


def _seconds(event: forms.Event, now: int) -> int:
    moment = event.time
    if moment is None:
        return now
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def profile_of(engine: Engine, row: UserRow) -> forms.ProfileOut:
    """Put all that is known of a user into the API's form."""
    recommender = engine.recommender
    times = row.times or [None] * len(row.history)
    told = row.shown or ""
    return forms.ProfileOut(
        user=row.user_id,
        summary=row.shown,
        written=row.summary,
        edited=row.edited is not None,
        unread_events=row.unread,
        failed=engine.state.failing.get(row.user_id, (row.failed, 0.0))[0],
        history=[
            forms.EventOut(item=item, line=line(recommender.catalogue, item), time=moment)
            for item, moment in zip(row.history, times, strict=True)
        ],
        blocks=[
            forms.BlockOut(index=block.index, items=[*block.items], summary=block.summary)
            for block in blocks_of(recommender, row)
        ],
        sentences=[
            forms.SentenceOut(text=text, items=places)
            for text, places in sentences_of(told, row.history, recommender.read)
        ],
        notes=notes_of(recommender, row),
    )
