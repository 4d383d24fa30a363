"""Summaries by a language model: prompts out, answers in, every answer stored before it counts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from trsr.config.summary import Check, Sampling
from trsr.models.generation import Failure, TextGenerator
from trsr.prompts.templates import Templates
from trsr.prompts.tokens import Tokens
from trsr.records import Summary
from trsr.summarize.budget import Budget
from trsr.summarize.exchange import Exchange
from trsr.summarize.inquiry import Inquiry, what_was_asked
from trsr.summarize.questions import Wording
from trsr.summarize.store import Store
from trsr.summarize.writer import Combine, Describe, Request, Unwritten, Update

ALL_AT_ONCE: Final = 4096
"""Prompts that a model in this process is shown at once, to sort them by length."""


class LanguageModelWriter:
    """Writes summaries with a text generator and the templates ``describe``, ``update`` and ``combine``.

    Each distinct prompt is looked up in the store and sent only when it isn't there
    and no other process is at it; each answer is stored as soon as it comes, so that
    a failure or a kill loses none. A useless answer is asked for once more in other
    words (`Inquiry`); when that doesn't help, its request is `Unwritten`.

    Parameters
    ----------
    generator
        Who answers.
    templates
        The words.
    sampling
        How answers are drawn.
    store
        Where answers are kept.
    tokens
        Counts for the items' cap, and estimates the prompts' tokens.
    item_tokens
        Cap of an item's line in the prompt.
    checks
        What makes an answer useless.
    ahead
        Prompts handed to the generator at once; what it can work on side by side, and some more.
    budget
        What may be paid for.
    """

    def __init__(
        self,
        generator: TextGenerator,
        templates: Templates,
        sampling: Sampling,
        store: Store,
        tokens: Tokens,
        item_tokens: int,
        *,
        checks: Collection[Check],
        ahead: int = ALL_AT_ONCE,
        budget: Budget | None = None,
    ) -> None:
        self.name = generator.identity
        self._wording = Wording(generator.identity, templates, sampling, tokens, item_tokens)
        self._templates = templates
        self._store = store
        self._checks = checks
        self._instructions = instructions(templates)
        self._open_exchange = partial(
            Exchange, generator, sampling, store, tokens, ahead, budget if budget is not None else Budget()
        )

    def write(self, requests: Sequence[Request]) -> Iterator[tuple[int, Summary | Unwritten]]:
        """Yield ``(place, summary)`` as answers come; requests appended meanwhile are answered too.

        Raises
        ------
        WriterError
            When the generator gives up.
        BudgetError
            At the cap on calls or money, when all that was under way is stored.
        StoreError
            When the store can't be read or written; nothing more is paid for then.
        """
        exchange = self._open_exchange()
        open_: dict[str, Inquiry] = {}
        failed: dict[str, Inquiry] = {}
        seen = 0
        try:
            while True:
                fresh: list[Inquiry] = []
                for place in range(seen, len(requests)):
                    self._take_in(place, requests[place], open_, fresh)
                seen = len(requests)
                for inquiry in self._look_up(fresh, exchange, failed):
                    yield from self._end(inquiry, open_, failed)
                if len(requests) > seen:
                    continue
                if not open_:
                    return
                inquiry, outcome, paid_now = exchange.receive()
                if isinstance(outcome, Failure):
                    inquiry.unanswered = outcome.reason
                else:
                    inquiry.take(outcome, self._templates, self._checks, paid_now=paid_now)
                for over in self._look_up([inquiry], exchange, failed):
                    yield from self._end(over, open_, failed)
        finally:
            exchange.close()

    def _take_in(self, place: int, request: Request, open_: dict[str, Inquiry], fresh: list[Inquiry]) -> None:
        """Join a request to the inquiry of its prompt, or begin one."""
        question = self._wording.question(request)
        inquiry = open_.get(question.key)
        if inquiry is None:
            asked = what_was_asked(request, question, self._instructions[type(request)])
            inquiry = open_[question.key] = Inquiry(question, asked, [], set())
            fresh.append(inquiry)
        inquiry.places.append(place)
        inquiry.users.add(request.user)

    def _look_up(
        self, inquiries: list[Inquiry], exchange: Exchange, failed: Collection[str]
    ) -> Iterator[Inquiry]:
        """Follow the attempts that are stored; yield the inquiries that are over, ask for the others."""
        while inquiries:
            going_on = []
            for inquiry in inquiries:
                if inquiry.is_over or inquiry.first.key in failed:
                    yield inquiry
                else:
                    going_on.append(inquiry)
            found = self._store.get_many([inquiry.question.key for inquiry in going_on])
            inquiries = [inquiry for inquiry in going_on if inquiry.question.key in found]
            if inquiries:
                self._store.tie({inquiry.question.key: inquiry.users for inquiry in inquiries})
            for inquiry in going_on:
                if inquiry.question.key in found:
                    stored = found[inquiry.question.key]
                    inquiry.take(stored, self._templates, self._checks, paid_now=False)
                else:
                    exchange.ask(inquiry)

    def _end(
        self, inquiry: Inquiry, open_: dict[str, Inquiry], failed: dict[str, Inquiry]
    ) -> Iterator[tuple[int, Summary | Unwritten]]:
        """Answer all who waited; the first of them bears the calls, to the others they are reused."""
        usage = inquiry.usage
        del open_[inquiry.first.key]
        known = inquiry if inquiry.is_written else failed.setdefault(inquiry.first.key, inquiry)
        if len(inquiry.users) > 1 or known is not inquiry:  # those who came after an answer was stored
            self._store.tie(dict.fromkeys(known.keys, inquiry.users))
        for place in inquiry.places:
            if inquiry.is_written:
                yield place, Summary(inquiry.text, usage=usage)
            else:
                yield place, Unwritten(known.failure(), usage)
            usage = replace(usage, calls=0, calls_reused=inquiry.usage.calls + inquiry.usage.calls_reused)


def instructions(templates: Templates) -> Mapping[type[Request], str]:
    """Render each verb without anything filled in: the language that answers must be in."""
    return {
        Describe: templates.render("describe", items=[]),
        Update: templates.render("update", summary="", items=[]),
        Combine: templates.render("combine", summaries=[]),
    }
