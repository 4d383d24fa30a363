"""A text generator without a model, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from trsr.config.summary import Sampling
from trsr.errors import TrsrError, WriterError
from trsr.llm.generator import Answering, Chat, Completion
from trsr.prompts.item_text import ApproximateTokens


class FakeGenerator:
    """Answers one chat at a time by a script, remembers what it was asked, and fails when told to.

    `answer` is chat to text, by default a sentence with the number of the user's message's tokens; it should
    depend on the chat alone, as a greedy model does. `fail_at` is the number of the call, from 1 over the
    generator's life, that fails. `chats` is what it was asked, in that order.
    """

    def __init__(
        self,
        answer: Callable[[Chat], str] | None = None,
        *,
        fail_at: int | None = None,
        identity: str = "fake@1",
        style: str = "chat",
    ) -> None:
        self.identity = identity
        self.style = style
        self.chats: list[Chat] = []
        self._answer = answer or _count_tokens
        self._fail_at = fail_at
        self._calls = 0

    @asynccontextmanager
    async def session(self, sampling: Sampling) -> AsyncIterator[Answering]:
        """Open it; see `TextGenerator`."""
        place = asyncio.Lock()
        ended: list[TrsrError] = []

        @asynccontextmanager
        async def answer(chat: Chat) -> AsyncIterator[Completion]:
            async with place:
                if ended:
                    raise ended[0]
                try:
                    yield await self.complete(chat, sampling)
                except TrsrError as error:
                    ended.append(error)
                    raise

        yield answer

    async def complete(self, chat: Chat, sampling: Sampling) -> Completion:
        """Give the scripted answer, cut at the limit; raises WriterError at the call number `fail_at`."""
        self._calls += 1
        if self._calls == self._fail_at:
            message = f"{self.identity}: call {self._calls} was told to fail"
            raise WriterError(message, retryable=True)
        self.chats.append(chat)
        tokens = ApproximateTokens()
        whole = self._answer(chat)
        text = tokens.cut(whole, sampling.max_new_tokens)
        return Completion(
            text=text,
            prompt_tokens=tokens.count(chat.system) + tokens.count(chat.user),
            completion_tokens=tokens.count(text),
            finish_reason="stop" if text == whole.rstrip() else "length",
        )


def _count_tokens(chat: Chat) -> str:
    return f"The message has {ApproximateTokens().count(chat.user)} tokens."
