"""Summaries by a language model: prompts out, answers in, every answer stored before it counts."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final

from trsr.config.summary import Check, Sampling
from trsr.errors import StoreError, WriterError
from trsr.llm.generator import Chat, Completion, Failure, TextGenerator
from trsr.prompts.item_text import Tokens
from trsr.prompts.templates import Templates
from trsr.records import Summary, Usage
from trsr.summarize.attempts import Inquiry, Wording, what_was_asked
from trsr.summarize.cost import Budget, charge
from trsr.summarize.store import Store
from trsr.summarize.writer import Combine, Describe, Request, Unwritten, Update

ALL_AT_ONCE: Final = 4096
"""Prompts that a model in this process is shown at once, to sort them by length."""


class LanguageModelWriter:
    """Writes summaries with a text generator and the templates ``describe``, ``update`` and ``combine``.

    Each distinct prompt is looked up in the store and sent only when it isn't there and no other process is
    at it; each answer is stored as soon as it comes, so that a failure or a kill loses none. A useless answer
    is asked for once more in other words (`Inquiry`); when that doesn't help, its request is `Unwritten`.

    `tokens` counts for the cap of an item's line (`item_tokens`), and estimates the prompts' tokens. `ahead`
    prompts are handed to the generator at once: what it can work on side by side, and some more. `checks` is
    what makes an answer useless.
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

        Raises WriterError when the generator gives up; BudgetError at the cap on calls or money, when all
        that was under way is stored; StoreError when the store can't be read or written: nothing more is paid
        for then.
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


_CHATS_A_STREAM: Final = 10_000
"""A stream keeps all its chats; a new one now and then keeps the memory of a long run small."""


class Exchange:
    """Hands questions to a generator as a stream that never waits for the slowest of a batch.

    Questions are claimed in the store; `tokens` estimates what prompts cost, and the budget is asked before
    each call. `ahead` questions are handed over at once.
    """

    def __init__(
        self,
        generator: TextGenerator,
        sampling: Sampling,
        store: Store,
        tokens: Tokens,
        ahead: int,
        budget: Budget,
    ) -> None:
        self._generator = generator
        self._sampling = sampling
        self._store = store
        self._tokens = tokens
        self._ahead = ahead
        self._budget = budget
        self._waiting: deque[Inquiry] = deque()
        self._elsewhere: list[Inquiry] = []
        self._looked_at = 0.0
        self._came: deque[tuple[Inquiry, Completion]] = deque()
        self._stream: Iterator[tuple[int, Completion | Failure]] = iter(())
        self._chats: list[Chat] = []
        self._sent: dict[int, Inquiry] = {}
        self._streamed = 0

    def ask(self, inquiry: Inquiry) -> None:
        """Take a question whose answer isn't stored."""
        self._waiting.append(inquiry)

    def receive(self) -> tuple[Inquiry, Completion | Failure, bool]:
        """Wait for one outcome; say whether it was paid for here, else another process has.

        Raises BudgetError when the budget has no room for any waiting question and none is under way,
        WriterError when the generator gives up, StoreError when the store fails.
        """
        while True:
            if self._elsewhere and time.monotonic() >= self._looked_at + self._store.poll_s:
                self._look_elsewhere()
            if self._came:
                return *self._came.popleft(), False
            is_refused = self._send()
            if self._sent:
                outcome = next(self._stream, None)
                if outcome is not None:
                    return self._accept(*outcome)
                self._open_again()
            elif self._elsewhere:
                time.sleep(max(0.0, self._looked_at + self._store.poll_s - time.monotonic()))
            elif is_refused:
                raise self._budget.stop()

    def close(self) -> None:
        """Let go of what is under way, so that others may ask for it."""
        if (end := getattr(self._stream, "close", None)) is not None:
            end()
        for inquiry in self._sent.values():  # tries that may be charged even so have been counted
            self._pay(inquiry, Usage())
        # The store may be what failed; a claim that stays ends with this process.
        with suppress(StoreError):
            self._store.release([inquiry.question.key for inquiry in self._sent.values()])

    def _send(self) -> bool:
        """Hand over what fits; say whether the budget refused something."""
        if not self._sent:
            self._open([])
        elif len(self._chats) >= _CHATS_A_STREAM:
            return False
        allowed, is_refused = self._allowed(self._ahead - len(self._sent))
        try:
            ours = self._store.claim([inquiry.question.key for inquiry in allowed])
        except StoreError:
            for inquiry in allowed:
                self._pay(inquiry, Usage())
            raise
        for inquiry in allowed:
            if inquiry.question.key in ours:
                self._sent[len(self._chats)] = inquiry
                self._chats.append(inquiry.question.chat)
            else:
                self._pay(inquiry, Usage())
                self._elsewhere.append(inquiry)
        return is_refused

    def _pay(self, inquiry: Inquiry, actual: Usage) -> None:
        """Put what an attempt did cost in the place of what was reserved for it, once."""
        self._budget.spend(inquiry.reserved, actual)
        inquiry.reserved = Usage()

    def _allowed(self, room: int) -> tuple[list[Inquiry], bool]:
        allowed: list[Inquiry] = []
        while self._waiting and len(allowed) < room:
            chat = self._waiting[0].question.chat
            prompt = self._tokens.count(chat.system) + self._tokens.count(chat.user)
            most = Usage(1, 0, prompt, self._sampling.max_new_tokens)
            if not self._budget.allow(most):
                return allowed, True
            inquiry = self._waiting.popleft()
            inquiry.reserved = most
            allowed.append(inquiry)
        return allowed, False

    def _accept(
        self, place: int, outcome: Completion | Failure
    ) -> tuple[Inquiry, Completion | Failure, bool]:
        self._streamed += 1
        inquiry = self._sent[place]
        if isinstance(outcome, Failure):
            del self._sent[place]
            # Tries that may be charged were counted as they failed; what is refused is a call without cost.
            self._pay(inquiry, Usage(0 if outcome.may_be_charged else 1))
            self._store.release([inquiry.question.key])
            return inquiry, outcome, False
        self._pay(inquiry, charge(outcome, inquiry.reserved))
        standing = self._store.put(inquiry.question, outcome, inquiry.users)
        del self._sent[place]
        return inquiry, standing, True

    def _look_elsewhere(self) -> None:
        """See which questions of other processes are answered by now; the others are claimed again."""
        self._looked_at = time.monotonic()
        inquiries, self._elsewhere = self._elsewhere, []
        found = self._store.get_many([inquiry.question.key for inquiry in inquiries])
        for inquiry in inquiries:
            if inquiry.question.key in found:
                self._store.tie({inquiry.question.key: inquiry.users})
                self._came.append((inquiry, found[inquiry.question.key]))
            else:
                self._waiting.append(inquiry)

    def _open_again(self) -> None:
        """Ask anew for what the generator left out: not every one takes chats that come later."""
        left = list(self._sent.values())
        if not self._streamed:
            message = (
                f"{self._generator.identity}: {len(left)} of {len(left)} prompts were not answered; run again"
            )
            raise WriterError(message, retryable=True)
        self._open(left)

    def _open(self, inquiries: list[Inquiry]) -> None:
        self._sent = dict(enumerate(inquiries))
        self._chats = [inquiry.question.chat for inquiry in inquiries]
        self._streamed = 0
        self._stream = iter(self._generator.generate(self._chats, self._sampling))
