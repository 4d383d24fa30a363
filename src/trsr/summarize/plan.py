"""The bill before the first call: every user's summaries walked through, as far as the store knows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa

from trsr.config.summary import Check, Sampling
from trsr.models.chat_tokens import ChatTokens
from trsr.models.generation import Chat
from trsr.prompts.templates import Templates
from trsr.records import Summary, Usage
from trsr.summarize.inquiry import Inquiry, what_was_asked
from trsr.summarize.language_model import instructions
from trsr.summarize.questions import VERBS, Wording
from trsr.summarize.store import Store
from trsr.summarize.store.schema import ANSWERS
from trsr.summarize.writer import Combine, Describe, Request, Unwritten, Update

_SAMPLE: Final = 200
"""Stored answers that are looked at for the usual length of an answer, and the error of a count."""


@dataclass(frozen=True, slots=True)
class Experience:
    """What stored answers of a model tell about those to come.

    Parameters
    ----------
    lengths
        Verb to the mean number of its answers' tokens.
    ratio
        The model's prompt tokens for one that was counted here.
    error
        By what share a counted prompt, times the ratio, is off in the mean; None when not measured.
    seen
        Stored answers that were looked at.
    """

    lengths: dict[str, float] = field(default_factory=dict)
    ratio: float = 1.0
    error: float | None = None
    seen: int = 0


class Planner:
    """A writer that writes nothing: it follows stored answers, and counts the calls that aren't there.

    Where an answer isn't stored, the summary that it would be is unknown; prompts
    that rest on it are counted with a summary of the usual length in its place, and
    taken to be unlike each other (where answers turn out equal, a run pays for less).
    Repairs of answers that are not there yet can't be known, and are not counted.

    Parameters
    ----------
    wording
        Words requests as the run will.
    templates
        For the wording of repairs that are stored.
    store
        Where answers may be; it is only read.
    checks
        What makes a stored answer useless.
    tokens
        Counts prompts.
    experience
        How long answers usually are, and how far the count is off.
    sampling
        Its limit is the length of answers of which nothing is known.

    Attributes
    ----------
    paid
        Calls that a run would pay for, and their tokens.
    reused
        Calls that the store would answer.
    """

    name = "plan"

    def __init__(
        self,
        wording: Wording,
        templates: Templates,
        store: Store,
        checks: Collection[Check],
        tokens: ChatTokens,
        experience: Experience,
        sampling: Sampling,
    ) -> None:
        self._wording = wording
        self._templates = templates
        self._store = store
        self._checks = checks
        self._tokens = tokens
        self._experience = experience
        self._limit = sampling.max_new_tokens
        self._instructions = instructions(templates)
        self._expected: dict[str, int] = {}
        self._summaries: dict[str, Summary | Unwritten] = {}
        self.paid = Usage()
        self.reused = 0

    def write(self, requests: Sequence[Request]) -> Iterator[tuple[int, Summary | Unwritten]]:
        """Answer with what is stored, and with a stand-in for what isn't."""
        done = 0
        while done < len(requests):
            new = list(enumerate(requests[done:], start=done))
            done = len(requests)
            inquiries = {place: self._inquire(place, request) for place, request in new}
            distinct: dict[str, tuple[Inquiry, Request]] = {}
            for place, request in new:
                key = inquiries[place].first.key
                if key in self._summaries or key in distinct:
                    self.reused += 1
                else:
                    distinct[key] = inquiries[place], request
            self._follow(distinct)
            for place, inquiry in inquiries.items():
                yield place, self._summaries[inquiry.first.key]

    def _inquire(self, place: int, request: Request) -> Inquiry:
        question = self._wording.question(request)
        asked = what_was_asked(request, question, self._instructions[type(request)])
        return Inquiry(question, asked, [place], set())

    def _follow(self, inquiries: dict[str, tuple[Inquiry, Request]]) -> None:
        """Go along the stored attempts of each prompt; the first that isn't stored is a call."""
        going_on = dict(inquiries)
        while going_on:
            found = self._store.get_many([inquiry.question.key for inquiry, _ in going_on.values()])
            for key, (inquiry, request) in list(going_on.items()):
                answer = found.get(inquiry.question.key)
                if answer is None:
                    self._summaries[key] = self._count(key, inquiry.question.chat, request)
                    del going_on[key]
                    continue
                self.reused += 1
                inquiry.take(answer, self._templates, self._checks, paid_now=False)
                if inquiry.is_written:
                    self._summaries[key] = Summary(inquiry.text)
                    del going_on[key]

    def _count(self, key: str, chat: Chat, request: Request) -> Summary:
        """Count one call, and make what stands for its answer: a mark, whose length is put right later."""
        counted = self._tokens.count(chat)
        for mark in _summaries_in(request):
            if mark in self._expected:
                counted += self._expected[mark] - self._tokens.count(Chat(mark))
        length = round(self._experience.lengths.get(_verb(request), self._limit))
        self.paid += Usage(1, 0, max(1, round(counted * self._experience.ratio)), length)
        mark = f"Summary {key[:16]}"
        self._expected[mark] = round(length / self._experience.ratio)
        return Summary(mark)


def learn(store: Store, model: str, tokens: ChatTokens, sampling: Sampling) -> Experience:
    """See what the store's answers of a model tell about the length of prompts and answers.

    Parameters
    ----------
    store
        The store.
    model
        Identity of the model.
    tokens
        Counts prompts; compared with the model's own counts where it isn't exact.
    sampling
        Answers that are longer than its limit were made under another one.
    """
    columns = ANSWERS.c
    wanted = (columns.template, columns.system_prompt, columns.user_prompt)
    counts = (columns.prompt_tokens, columns.completion_tokens)

    def read(connection: sa.Connection) -> list[sa.Row[tuple[str, str, str, int, int]]]:
        rows = sa.select(*wanted, *counts).where(
            columns.model == model, columns.completion_tokens.between(1, sampling.max_new_tokens)
        )
        return list(connection.execute(rows.order_by(columns.created_at.desc()).limit(_SAMPLE)))

    rows = store.database.run("read", read)
    lengths: dict[str, float] = {}
    for verb in VERBS:
        seen = [row.completion_tokens for row in rows if f" {verb} " in f" {row.template} "]
        if seen:
            lengths[verb] = sum(seen) / len(seen)
    if rows:  # what is known of one verb is the best guess for the others: the length asked for is the same
        mean = sum(row.completion_tokens for row in rows) / len(rows)
        lengths = dict.fromkeys(VERBS, mean) | lengths
    told = [row for row in rows if row.prompt_tokens]
    if tokens.is_exact or not told:
        return Experience(lengths, seen=len(rows))
    counted = [tokens.count(Chat(row.user_prompt, row.system_prompt)) or 1 for row in told]
    ratio = sum(row.prompt_tokens for row in told) / sum(counted)
    errors = [abs(own * ratio / row.prompt_tokens - 1) for own, row in zip(counted, told, strict=True)]
    return Experience(lengths, ratio, sum(errors) / len(errors), len(rows))


def _verb(request: Request) -> str:
    return {Describe: "describe", Update: "update", Combine: "combine"}[type(request)]


def _summaries_in(request: Request) -> Iterable[str]:
    if isinstance(request, Update):
        return (request.summary.text,)
    return (summary.text for summary in request.summaries) if isinstance(request, Combine) else ()
