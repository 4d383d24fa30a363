"""Questions out, answers in: claimed before they are paid, within the budget, stored before they count."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from trsr.config.summary import Sampling
from trsr.errors import StoreError, WriterError
from trsr.models.generation import Chat, Completion, Failure, TextGenerator
from trsr.prompts.tokens import Tokens
from trsr.records import Usage
from trsr.summarize.budget import Budget, charge
from trsr.summarize.inquiry import Inquiry
from trsr.summarize.store import Store

_CHATS_A_STREAM: Final = 10_000
"""A stream keeps all its chats; a new one now and then keeps the memory of a long run small."""


class Exchange:
    """Hands questions to a generator as a stream that never waits for the slowest of a batch.

    Parameters
    ----------
    generator
        Who answers.
    sampling
        How answers are drawn.
    store
        Where answers are kept and claimed.
    tokens
        Estimates what prompts cost.
    ahead
        Questions handed over at once.
    budget
        Asked before each call.
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

        Raises
        ------
        BudgetError
            When the budget has no room for any waiting question, and none is under way.
        WriterError
            When the generator gives up.
        StoreError
            When the store fails.
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
