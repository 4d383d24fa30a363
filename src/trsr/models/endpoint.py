"""Answers by an OpenAI-compatible server."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import openai

from trsr.config.summary import EndpointWriter, Sampling
from trsr.models.generation import Chat, Completion, Failure
from trsr.models.identity import served_identity
from trsr.models.prompt_counts import PromptCounts
from trsr.models.replies import NO_KEY, Replies
from trsr.models.schedule.dispatch import Send
from trsr.models.schedule.pace import Pace
from trsr.models.schedule.stream import stream
from trsr.models.schedule.trouble import Fault, Trouble
from trsr.prompts.tokens import ApproximateTokens

_LOG: Final = logging.getLogger(__name__)


class EndpointGenerator:
    """Sends chats to a server as fast as it allows, several at once, and yields answers as they come.

    What passes (busy, away, a lost or broken reply) is tried again with exponential
    back-off and jitter, or after as long as the server asks for (``Retry-After``). A
    server that fails again and again is left alone and probed with one call at a
    time. A call that can't be answered while others can yields its `Failure`. The key
    is read from the environment when the generator is made and stands in no message.

    Parameters
    ----------
    config
        Server, model, limits and patience.

    Attributes
    ----------
    identity
        The model's name at the server, and the revision where one is given. The
        server's address is no part of it: a moved server is the same model.
    pace
        What was sent so far, and what the server is known to bear.
    """

    def __init__(self, config: EndpointWriter) -> None:
        self._config = config
        self._key = os.environ.get(config.api_key_env) or NO_KEY
        self._replies = Replies(config, self._key)
        self._estimate = ApproximateTokens()
        self._counts = PromptCounts()
        self._told_of_usage = False
        # Back-off must differ between processes that failed together; it decides no result.
        self.pace = Pace(config, random.Random())
        self.identity = served_identity(config.model, config.revision)

    def generate(
        self, chats: Sequence[Chat], sampling: Sampling
    ) -> Iterator[tuple[int, Completion | Failure]]:
        """Yield ``(place, outcome)`` in the order in which the server finishes; `chats` may grow meanwhile.

        Raises
        ------
        WriterError
            Naming server, model, status and the next step: when no call can be
            answered, such as with a wrong key, or when the server stays away longer
            than `patience_s`. Answers under way are waited for and yielded first.
        """

        @asynccontextmanager
        async def line() -> AsyncIterator[Send]:
            async with self._connect() as client:

                async def send(place: int) -> Completion | Trouble:
                    return await self._ask(client, chats[place], sampling)

                yield send

        def weigh(chat: Chat) -> float:
            return self._counts.ratio * self._count(chat) + sampling.max_new_tokens

        yield from stream(chats, line, self.pace, self._config.concurrency, weigh)

    def _connect(self) -> openai.AsyncOpenAI:
        config = self._config
        return openai.AsyncOpenAI(
            base_url=config.base_url,
            api_key=self._key,
            timeout=openai.Timeout(config.timeout_s, connect=config.connect_timeout_s),
            max_retries=0,  # every try is counted and paced here
        )

    async def _ask(self, client: openai.AsyncOpenAI, chat: Chat, sampling: Sampling) -> Completion | Trouble:
        outcome = await self._replies.ask(client, chat, sampling)
        if isinstance(outcome, Trouble) or not self._config.check_prompt_tokens:
            return outcome
        if not outcome.prompt_tokens and not self._told_of_usage:
            self._told_of_usage = True
            _LOG.warning("%s reports no prompt tokens: whether it cuts prompts can't be seen", self.identity)
        if cut := self._counts.find_cut(self._count(chat), outcome.prompt_tokens):
            return Trouble(
                Fault.SETTINGS,
                f"{self._replies.where}: {cut}, so it cuts prompts in silence; raise the server's context "
                "length, or lower items.max_tokens or summary.block_size, and give summary.writer.revision a "
                "new value if answers were stored before; if its count is wrong, set "
                "summary.writer.check_prompt_tokens to false",
            )
        return outcome

    def _count(self, chat: Chat) -> int:
        return self._estimate.count(chat.system) + self._estimate.count(chat.user)
