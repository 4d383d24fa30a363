"""Answers by an OpenAI-compatible server: whose turn it is to be sent, and whether it cuts the prompts."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import random
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from statistics import median
from typing import Final, Protocol

import httpx2

from trsr.config.summary import ChatEndpoint, Endpoint, EndpointWriter, Sampling
from trsr.errors import BudgetError, TrsrError
from trsr.hf.loading import served_identity
from trsr.llm.generator import Answering, Chat, Completion, Unanswered
from trsr.llm.pacing import Call, Fault, Pace, Trouble
from trsr.llm.replies import Replies
from trsr.prompts.item_text import ApproximateTokens
from trsr.records import Usage

_LOG: Final = logging.getLogger(__name__)


class Payer(Protocol):
    """Who is told of tries that may have been charged although no answer came of them."""

    def lose(self, most: Usage) -> bool:
        """Count such a try at its most; say whether another one may be paid for."""
        ...

    def stop(self) -> BudgetError:
        """Make the error that ends the run where none may."""
        ...


class Asks(Protocol):
    """One request and its reply; see `trsr.llm.exchange.Exchange`."""

    where: str

    def connect(self) -> httpx2.AsyncClient:
        """Make the client."""
        ...

    async def ask(self, client: httpx2.AsyncClient, chat: Chat, sampling: Sampling) -> Completion | Trouble:
        """Send one chat and read the reply."""
        ...


class ServerGenerator(ABC):
    """Sends chats to a server as fast as it allows, several at once.

    What passes (busy, away, a lost or broken reply) is tried again with exponential back-off and jitter, or
    after as long as the server asks for (``Retry-After``). A server that fails again and again is left alone
    and probed with one call at a time. A call that can't be answered while others can is `Unanswered`.
    The key is read from the environment when the generator is made and stands in no message.

    `identity` is what the model is called in the store. `pace` holds what was sent so far, and what the
    server is known to bear. The payer is told of tries that timed out, broke off or came back unreadable;
    None when nobody counts.
    """

    def __init__(self, config: Endpoint, replies: Asks, identity: str, payer: Payer | None) -> None:
        self._replies = replies
        self._payer = payer
        self._places = config.concurrency
        # Back-off must differ between processes that failed together; it decides no result.
        self.pace = Pace(config, random.Random())
        self.identity = identity

    @asynccontextmanager
    async def session(self, sampling: Sampling) -> AsyncIterator[Answering]:
        """Open the connections; see `TextGenerator`.

        When no call can be answered, such as with a wrong key, or when the server stays away longer than
        `patience_s`, the WriterError names server, model, status and the next step. BudgetError is raised
        when tries that may have been charged have left nothing to pay another one with.
        """
        turns = Turns(self.pace, self._places)
        async with self._replies.connect() as client:

            def answer(chat: Chat) -> AbstractAsyncContextManager[Completion]:
                most = self.most(chat, sampling)
                call = Call(self._ratio * most.prompt_tokens + most.completion_tokens)
                return turns.answer(call, lambda: self._ask(client, chat, sampling, most))

            yield answer

    @abstractmethod
    def most(self, chat: Chat, sampling: Sampling) -> Usage:
        """Return the most that a call can cost, as one call."""

    @abstractmethod
    def _check(self, most: Usage, answer: Completion) -> Completion | Trouble:
        """Hold an answer against what the call was expected to be."""

    @property
    def _ratio(self) -> float:
        """The server's tokens for one expected token of a prompt."""
        return 1.0

    async def _ask(
        self, client: httpx2.AsyncClient, chat: Chat, sampling: Sampling, most: Usage
    ) -> Completion | Trouble:
        try:
            outcome = await self._replies.ask(client, chat, sampling)
        except asyncio.CancelledError:  # the server goes on with what it was sent
            self._lose(most)
            raise
        if isinstance(outcome, Completion) and chat.image is None:  # what an image counts, servers alone know
            outcome = self._check(most, outcome)
        if isinstance(outcome, Trouble) and outcome.may_be_charged:
            stop = self._lose(most)
            if stop is not None and outcome.fault in (Fault.TRY, Fault.SERVER):  # another try would follow
                raise stop
        return outcome

    def _lose(self, most: Usage) -> BudgetError | None:
        """Tell the payer of a try that may be charged; return the end of the run when none can follow."""
        return None if self._payer is None or self._payer.lose(most) else self._payer.stop()


class EndpointGenerator(ServerGenerator):
    """Answers by an OpenAI-compatible server; see `ServerGenerator`.

    `identity` is the model's name at the server, the revision where one is given, and what `request` changes
    in an answer. The server's address is no part of it: a moved server is the same model.
    """

    def __init__(self, config: ChatEndpoint, payer: Payer | None = None) -> None:
        super().__init__(config, Replies(config), served_identity(config), payer)
        writer = config if isinstance(config, EndpointWriter) else None
        self._checks_counts = writer is not None and writer.check_prompt_tokens
        self._estimate = ApproximateTokens()
        self._counts = PromptCounts()
        self._told_of_usage = False
        self.style: str = "chat" if writer is None else writer.style

    def most(self, chat: Chat, sampling: Sampling) -> Usage:
        """Estimate the prompt's tokens, and take the longest answer."""
        prompt = self._estimate.count(chat.system) + self._estimate.count(chat.user) + chat.image_tokens
        return Usage(1, 0, prompt, sampling.max_new_tokens)

    @property
    def _ratio(self) -> float:
        return self._counts.ratio

    def _check(self, most: Usage, answer: Completion) -> Completion | Trouble:
        """Hold the server's count of the prompt against ours: it shows a cut, or isn't to be believed."""
        estimate = most.prompt_tokens
        said = self._counts.find_cut(estimate, answer.prompt_tokens)
        if said and self._checks_counts:
            return Trouble(
                Fault.SETTINGS,
                f"{self._replies.where}: {said}, so it cuts prompts in silence; raise the server's context "
                "length, or lower items.max_tokens or summary.block_size, and give summary.writer.revision a "
                "new value if answers were stored before; if its count is wrong (some count only what their "
                "cache lacks), set summary.writer.check_prompt_tokens to false",
                may_be_charged=True,
            )
        if said or self._counts.is_partial(estimate, answer.prompt_tokens):
            answer = replace(answer, prompt_tokens=None)
        if None in (answer.prompt_tokens, answer.completion_tokens) and not self._told_of_usage:
            self._told_of_usage = True
            _LOG.warning(
                "%s reports no whole usage: what is missing counts as reserved, the prompt as estimated and "
                "the longest answer; whether it cuts prompts can't be seen",
                self.identity,
            )
        return answer


_Waiting = tuple[float, int, Call, asyncio.Future[bool]]
"""When its next try is due, its number, the call, and its turn."""


class Turns:
    """Whose turn it is to send a try: of so many places, in the pace, one at a time while a server is probed.

    A call that waits for its next try takes no place; an answer that the caller has not stored yet keeps its
    place, so that a kill loses no more answers than that. The pace outlives the turns of one session; `clock`
    gives monotonic seconds.
    """

    def __init__(self, pace: Pace, places: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._pace = pace
        self._places = places
        self._clock = clock
        self._ready: deque[_Waiting] = deque()
        self._delayed: list[_Waiting] = []
        self._numbers = itertools.count()
        self._taken = 0
        self._timer: asyncio.TimerHandle | None = None
        self._stopped_by: TrsrError | None = None

    @asynccontextmanager
    async def answer(
        self, call: Call, send: Callable[[], Awaitable[Completion | Trouble]]
    ) -> AsyncIterator[Completion]:
        """Send until there is an answer; its place is free again when the block ends.

        What `send` or the block raises, and what the pace says, ends all calls: nothing new is sent, and the
        error is raised to all who wait when what was under way has ended.
        """
        while True:
            probe = await self._turn(call)
            try:
                outcome = await self._try(call, send, probe=probe)
                if isinstance(outcome, Completion):
                    yield outcome
                    return
            except TrsrError as error:  # where an answer can't be kept, nothing more is to be paid for
                self._stopped_by = self._stopped_by or error
                raise
            finally:
                self._taken -= 1
                self._go_on()
            if isinstance(outcome, Unanswered):
                raise outcome

    async def _try(
        self, call: Call, send: Callable[[], Awaitable[Completion | Trouble]], *, probe: bool
    ) -> Completion | Unanswered | None:
        """Send once; None when the call is to be tried again, or everything is to end."""
        try:
            outcome = await send()
        except TrsrError as error:
            self._stopped_by = self._stopped_by or error
            return None
        if isinstance(outcome, Completion):
            told = outcome.prompt_tokens is not None and outcome.completion_tokens is not None
            used = (outcome.prompt_tokens or 0) + (outcome.completion_tokens or 0)
            self._pace.succeed(call, used if told else None)
            return outcome
        now = self._clock()
        self._stopped_by = self._stopped_by or self._pace.fail(call, outcome, now, probe=probe)
        if self._stopped_by is not None:
            return None
        if not self._pace.ends(call, outcome):
            self._pace.put_off(call, now)
            return None
        said = outcome.said if call.tries <= 1 else f"{outcome.said} ({call.tries} tries)"
        self._stopped_by = self._pace.end(said)
        return Unanswered(said, may_be_charged=outcome.may_be_charged)

    async def _turn(self, call: Call) -> bool:
        """Wait for a place; say whether the try is a probe."""
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        waiting = (call.next_try, next(self._numbers), call, turn)
        if call.tries:
            heapq.heappush(self._delayed, waiting)
        else:
            self._ready.append(waiting)
        self._go_on()
        try:
            return await turn
        except asyncio.CancelledError:
            if not turn.cancelled() and turn.exception() is None:  # its turn had just come
                self._taken -= 1
                self._go_on()
            raise

    def _go_on(self) -> None:
        """Give turns to all whose time it is, and look again when the next one's comes."""
        if self._timer is not None:
            self._timer.cancel()
        while (wait := self._wait()) == 0.0:
            *_, call, turn = self._ready.popleft()
            if not turn.done():
                self._pace.send(call, self._clock())
                self._taken += 1
                turn.set_result(self._pace.probing)
        self._timer = None if wait is None else asyncio.get_running_loop().call_later(wait, self._go_on)
        if self._stopped_by is not None and not self._taken:
            for *_, turn in [*self._ready, *self._delayed]:
                if not turn.done():
                    turn.set_exception(self._stopped_by)
            self._ready, self._delayed = deque(), []

    def _wait(self) -> float | None:
        """Seconds until the next try can be sent; None until something changes."""
        if self._stopped_by is not None or self._taken >= (1 if self._pace.probing else self._places):
            return None
        now = self._clock()
        if self._pace.probing and not self._ready and self._delayed:
            self._ready.append(self._pick_probe())
        while self._delayed and self._delayed[0][0] <= now:
            self._ready.appendleft(heapq.heappop(self._delayed))
        if not self._ready:
            return max(self._delayed[0][0] - now, 1e-3) if self._delayed else None
        wait = self._pace.wait(self._ready[0][2].tokens, now)
        # A call that has waited for its next try may come before what waits for the limits.
        return min(wait, max(self._delayed[0][0] - now, 1e-3)) if wait and self._delayed else wait

    def _pick_probe(self) -> _Waiting:
        """Take the call with the fewest tries: one prompt that breaks the server must not be every probe."""
        chosen = min(self._delayed, key=lambda waiting: (waiting[2].tries, *waiting[:2]))
        self._delayed.remove(chosen)
        heapq.heapify(self._delayed)
        return chosen


_SHORT: Final = 64
"""Prompts of fewer tokens say little: the chat template's own tokens weigh too much."""
_LEAST_SHARE: Final = 0.6
_CALIBRATED: Final = 5
_REMEMBERED: Final = 50
_STUCK_AT: Final = 3
_STUCK_SPREAD: Final = 1.15


@dataclass(slots=True)
class _Seen:
    """Estimates of the prompts for which the server reported one same count."""

    shortest: int
    longest: int
    times: int


class PromptCounts:
    """Compares the server's counts of prompt tokens with estimates, and tells when prompts were cut.

    The server's tokenizer isn't known, so two rules, both stated in ratios. A count below 60% of what is
    expected is a cut; expected is the estimate times the median ratio of the answers so far, or the estimate
    itself before the fifth. And a server that reports the same count for three prompts whose estimates differ
    by 15% or more, none of them reported higher, has cut them to its context.

    Examples
    --------
    >>> counts = PromptCounts()
    >>> counts.find_cut(estimate=1000, reported=930), counts.ratio
    ('', 0.93)
    >>> counts.find_cut(estimate=4000, reported=2048)
    'the server counts 2,048 tokens in a prompt of about 3,720'
    """

    def __init__(self) -> None:
        self._ratios: deque[float] = deque(maxlen=_REMEMBERED)
        self._seen: dict[int, _Seen] = {}
        self._highest = 0

    @property
    def ratio(self) -> float:
        """The server's tokens for one estimated token; 1.0 until it is known."""
        return median(self._ratios) if self._ratios else 1.0

    def find_cut(self, estimate: int, reported: int | None) -> str:
        """Note one answer; say what shows that its prompt was cut, or return an empty text.

        `reported` is the server's count; None when it reports none, which shows nothing.
        """
        if reported is None or estimate < _SHORT or self.is_partial(estimate, reported):
            return ""
        ratio = self.ratio if len(self._ratios) >= _CALIBRATED else min(1.0, self.ratio)
        if reported < _LEAST_SHARE * ratio * estimate:
            return f"the server counts {reported:,} tokens in a prompt of about {ratio * estimate:,.0f}"
        if self._is_stuck(estimate, reported):
            return f"the server counts {reported:,} tokens in prompts of unlike length"
        self._ratios.append(reported / estimate)
        return ""

    def is_partial(self, estimate: int, reported: int | None) -> bool:
        """Say whether a count is below any context that a prompt could be cut to: it leaves the cache out."""
        return reported is not None and reported < _SHORT and reported < _LEAST_SHARE * estimate

    def _is_stuck(self, estimate: int, reported: int) -> bool:
        self._highest = max(self._highest, reported)
        seen = self._seen.setdefault(reported, _Seen(estimate, estimate, 0))
        seen.shortest, seen.longest = min(seen.shortest, estimate), max(seen.longest, estimate)
        seen.times += 1
        spread = seen.longest / seen.shortest
        return reported == self._highest and seen.times >= _STUCK_AT and spread >= _STUCK_SPREAD
