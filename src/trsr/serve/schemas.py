"""The service's own API in types: what is asked and what is answered. Unknown fields are ignored."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from trsr.recommending import Repeats, Wanted

MOST_REQUESTS: Final = 256
"""Requests of a batch."""
_MOST_EVENTS: Final = 10_000

UserId = Annotated[str, Field(min_length=1, max_length=1000, description="A user's id.")]
ItemId = Annotated[str, Field(max_length=1000)]
Texts = dict[str, Any]


class _Form(BaseModel):
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True, frozen=True)


class Who(_Form):
    """Whose ranking it is: a known user, or a history."""

    user: UserId | None = Field(
        None, description="A known user; beside a history, whose history it is (not looked up)."
    )
    history: list[ItemId | Texts] | None = Field(
        None, description="Items, oldest first: ids, or text fields of items that the catalogue lacks."
    )
    summary: str | None = Field(
        None, description="A preference summary to use in place of the stored or a new one: what if?"
    )


class RankAsked(Who):
    """Candidates to be ranked."""

    candidates: list[ItemId | Texts] | None = Field(
        None, description="What to rank; none: what the run froze for the user, or the whole catalogue."
    )
    k: int | None = Field(None, ge=1, description="How many to return; none for all.")


class RecommendAsked(Who):
    """The best of the whole catalogue."""

    candidates: list[ItemId] | None = Field(
        None, description="Where to choose from, by ids; none: the whole catalogue."
    )
    k: int = Field(10, ge=1, description="How many to return.")
    items: int | None = Field(
        None, ge=1, description="Retrieved items that the language model reads; none: as it was learnt."
    )
    milliseconds: float | None = Field(
        None, gt=0, description="When the time is up, no further 25 items are read; `left_out` says how many."
    )
    deny: list[ItemId] = Field([], description="Ids of items that may not be recommended.")
    where: dict[str, list[str]] = Field(
        {}, description="Field of the items to texts, one of which must stand in it, whole or between commas."
    )
    repeats: Repeats = Field(
        "learnt",
        description="Items of the history: as far as people take things again, never, as all others.",
    )
    explain: bool = Field(False, description="Whether to say what each system said of each item.")

    @property
    def wanted(self) -> Wanted:
        """The same as the recommender takes it."""
        told = {name: getattr(self, name) for name in ("k", "items", "milliseconds", "deny", "where")}
        return Wanted(**told, allow=self.candidates, repeats=self.repeats, explain=self.explain)


class ExplainAsked(Who):
    """One item to be explained."""

    item: ItemId | Texts = Field(description="The item: an id, or text fields.")
    catalogue: bool | None = Field(
        None,
        description="By the score that `recommend` gives, of the whole catalogue; none: for users who came "
        "after the run, for whom it froze no candidates.",
    )


class BatchOfRank(_Form):
    """Several rankings in one request."""

    requests: list[RankAsked] = Field(min_length=1, max_length=MOST_REQUESTS)


class BatchOfRecommend(_Form):
    """Several recommendations in one request."""

    requests: list[RecommendAsked] = Field(min_length=1, max_length=MOST_REQUESTS)


class Event(_Form):
    """A user has taken an item."""

    user: UserId
    item: ItemId
    time: datetime | None = Field(
        None, description="Unix seconds or ISO 8601 (UTC where no zone is given); none: now."
    )


class EventsAsked(_Form):
    """Events to be put behind histories."""

    events: list[Event] = Field(min_length=1, max_length=_MOST_EVENTS)


class EditAsked(_Form):
    """A person's text in the place of a summary."""

    summary: str


class RewriteAsked(_Form):
    """From which block on a summary is written again."""

    block: int = Field(0, ge=0, description="The first block that is read again; 0 is the oldest.")
    text: str | None = Field(
        None,
        description="What a person says of this block: later ones go on from it (not the built-in writer).",
    )
    fresh: bool = Field(False, description="Ask a model anew: its stored answers about the user are deleted.")


class UsersAsked(_Form):
    """Users to be deleted."""

    users: list[UserId] = Field(min_length=1, max_length=MOST_REQUESTS)


class VoiceOut(_Form):
    """What one system said, and what that adds to the sum that makes the score."""

    system: str
    said: float | None
    adds: float


class RankedOut(_Form):
    """One item of a ranking."""

    item: str
    rank: int
    score: float = Field(description="What it is ranked by: the fused probability, or p(yes) again.")
    p_yes: float = Field(description="What the language model says.")
    index: int = Field(description="Its place among the candidates as they were given, from 0.")
    systems: list[VoiceOut] = Field([], description="Who said what, where `explain` asks for it.")


class Usage(_Form):
    """What it took."""

    prompt_tokens: int = Field(description="Tokens of the prompts; what candidates share is counted once.")
    reused_tokens: int = Field(description="How many of them were held from an earlier request.")


class RankOut(_Form):
    """A ranking, and what is to be said of it."""

    user: str | None
    summary: str = Field(description="The summary that the model was told.")
    edited: bool = Field(description="Whether a person wrote it.")
    unread_events: int = Field(description="Events of the user that the summary doesn't know yet.")
    items: list[RankedOut]
    usage: Usage
    read: int = Field(description="Items that the language model read.")
    left_out: int = Field(description="Retrieved items that it had no time for.")
    seconds: dict[str, float] = Field(description="What `recommend` took: retrieve, read, fuse.")
    warnings: list[str]


class ErrorOut(_Form):
    """What went wrong, and what to do."""

    type: str
    message: str
    status: int
    details: list[Any] = []


class Failed(_Form):
    """What every error looks like."""

    error: ErrorOut


class BatchOut(_Form):
    """Results in the order of the requests; one that fails leaves the others alone."""

    results: list[RankOut | Failed]


class ShownOut(_Form):
    """A recent item that the model is shown, and p(yes) had it not been there."""

    item: str
    line: str
    p_yes_without: float


class ExplainOut(_Form):
    """Who said what of one item."""

    user: str | None
    item: str
    line: str
    score: float
    p_yes: float
    ranked_by: str
    summary: str
    p_yes_without_summary: float | None
    recent_items: list[ShownOut]
    systems: list[VoiceOut] = Field(description="Empty where p(yes) is the score.")
    edited: bool
    unread_events: int
    warnings: list[str]


class EventOut(_Form):
    """An item of a history."""

    item: str
    line: str
    time: int | None = Field(description="Unix seconds.")


class BlockOut(_Form):
    """Items that were read together, and the summary after them."""

    index: int
    items: list[int] = Field(description="Places in the history, from 0.")
    summary: str | None = Field(description="None while the writer has not read them.")


class SentenceOut(_Form):
    """A sentence of the summary, and the items that share a word with it."""

    text: str
    items: list[int] = Field(description="Places in the history, from 0.")


class NoteOut(_Form):
    """A line of a profile in sections, and what caused it."""

    number: int = Field(description="What edits call it.")
    section: str
    text: str
    blocks: list[int] = Field(description="The blocks that wrote its text: added, then updated.")
    ended: int | None = Field(description="The block that deleted it or filled its section; None: it stands.")
    items: list[int] = Field(description="Items of these blocks, as places in the history, from 0.")


class ProfileOut(_Form):
    """All that is known of a user."""

    user: str
    summary: str | None = Field(description="What the model is told.")
    written: str | None = Field(description="What the writer wrote; differs where a person has edited.")
    edited: bool
    unread_events: int
    failed: str = Field(description="Why the writer could not write; empty when it could.")
    history: list[EventOut]
    blocks: list[BlockOut]
    sentences: list[SentenceOut]
    notes: list[NoteOut] = Field(description="Of the paradigm `sections`: all notes there ever were.")


class FindingOut(_Form):
    """What was left out, repaired or noticed."""

    rule: str
    count: int
    action: str
    message: str
    examples: list[str]


class EventsOut(_Form):
    """What became of events: they are on the disk, and count as recent items from now on."""

    accepted: int
    users: dict[str, int] = Field(
        description="Each user with new events, and how many the summary lacks now."
    )
    findings: list[FindingOut]


class DeletedOut(_Form):
    """What went, and what still knows the user, a line each."""

    user: str
    known: bool
    removed: list[str]
    leaves: int | None = Field(
        None, description="When it will be carried out (unix seconds), where it can be taken back until then."
    )


class UsersOut(_Form):
    """Ids of users."""

    users: list[str]


class DeletedManyOut(_Form):
    """Several users' deletion."""

    users: list[DeletedOut]


class HealthOut(_Form):
    """The process lives."""

    status: str
    version: str


class ReadyOut(_Form):
    """Whether requests are answered, and what is wrong where something is."""

    ready: bool
    ranked_by: str
    items: int
    users: bool = Field(description="Whether users are known, or histories alone are ranked.")
    trouble: str = Field(description="Why summaries aren't written now; empty when they are.")
