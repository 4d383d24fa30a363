"""What a text generator is, in this process or behind a server; and one without a model, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from trsr.config.summary import Sampling
from trsr.errors import TrsrError, WriterError
from trsr.prompts.item_text import ApproximateTokens


@dataclass(frozen=True, slots=True)
class Chat:
    """One prompt: an optional system instruction and the user's message."""

    user: str
    system: str = ""


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer.

    Parameters
    ----------
    text
        The answer, without the prompt and without special tokens; thoughts that the model marks stand in it.
    prompt_tokens, completion_tokens
        As the model's own tokenizer counts them; None when the server doesn't tell.
    finish_reason
        ``stop`` when the model ended by itself, ``length`` when the limit cut it,
        ``content_filter`` when the server kept it back.
    omitted
        Sampling parameters that the server refused, so that its own values hold.
    """

    text: str
    prompt_tokens: int | None
    completion_tokens: int | None
    finish_reason: str
    omitted: tuple[str, ...] = ()


class Unanswered(Exception):
    """One chat has no answer, while the others may still have theirs.

    Parameters
    ----------
    reason
        What happened and what to do about it, in one sentence.
    may_be_charged
        Whether the server may ask money for it; whoever pays was told so at each such try.
    """

    def __init__(self, reason: str, *, may_be_charged: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.may_be_charged = may_be_charged


Answering = Callable[[Chat], AbstractAsyncContextManager[Completion]]
"""``async with answer(chat) as completion``: waits for the answer, and ends when it is stored."""


class TextGenerator(Protocol):
    """Answers chats; knows its own batching or concurrency.

    Examples
    --------
    >>> async def ask() -> str:
    ...     async with FakeGenerator().session(Sampling()) as answer, answer(Chat("tea")) as completion:
    ...         return completion.text
    >>> asyncio.run(ask())
    'The message has 1 tokens.'
    """

    identity: str
    """Model id and revision: with sampling and prompt, the key under which an answer is stored."""

    def session(self, sampling: Sampling) -> AbstractAsyncContextManager[Answering]:
        """Open what answers any number of chats at once, for the length of a run and inside its loop.

        An answer keeps its place until its block ends: a place is free when the answer is stored, so that a
        kill loses no more answers than there are places. For a chat that can't be answered while others
        can, `Unanswered` is raised. An error that a block raises ends the session as an own one does.

        Raises
        ------
        WriterError
            When no chat can be answered any more; blocks that were under way have ended by then.
        """
        ...


class FakeGenerator:
    """Answers one chat at a time by a script, remembers what it was asked, and fails when told to.

    Parameters
    ----------
    answer
        Chat to answer text; by default a sentence with the number of the user's
        message's tokens. It should depend on the chat alone, as a greedy model does.
    fail_at
        Number of the call, from 1 over the generator's life, that fails; None never.

    Attributes
    ----------
    chats
        What it was asked, in that order.
    """

    def __init__(
        self,
        answer: Callable[[Chat], str] | None = None,
        *,
        fail_at: int | None = None,
        identity: str = "fake@1",
    ) -> None:
        self.identity = identity
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
