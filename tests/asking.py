"""Asking generators and writers from tests, which have no event loop of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from trsr.config.summary import Sampling
from trsr.errors import TrsrError
from trsr.llm.generator import Answering, Chat, Completion, TextGenerator, Unanswered
from trsr.records import Summary
from trsr.summarize.writer import SessionWriter, Unwritten, Writer

Outcome = Completion | Unanswered | TrsrError


async def outcome(answer: Answering, chat: Chat) -> Outcome:
    try:
        async with answer(chat) as completion:
            return completion
    except (Unanswered, TrsrError) as error:
        return error


def outcomes(generator: TextGenerator, chats: Sequence[Chat], sampling: Sampling) -> list[Outcome]:
    """What came of each chat, all asked at once."""

    async def ask() -> list[Outcome]:
        async with generator.session(sampling) as answer:
            return await asyncio.gather(*(outcome(answer, chat) for chat in chats))

    return asyncio.run(ask())


def completions(generator: TextGenerator, chats: Sequence[Chat], sampling: Sampling) -> list[Completion]:
    """The answers, in the chats' order; raises the first error."""
    found = []
    for each in outcomes(generator, chats, sampling):
        if not isinstance(each, Completion):
            raise each
        found.append(each)
    return found


Ask = Callable[[Writer], Awaitable[Summary]]


def write(writer: SessionWriter, *asked: Ask) -> list[Summary | Unwritten]:
    """The summaries, in the order of what was asked, all at once; an error that ends the run is raised."""

    async def one(opened: Writer, ask: Ask) -> Summary | Unwritten:
        try:
            return await ask(opened)
        except Unwritten as error:
            return error

    async def all_of_them() -> list[Summary | Unwritten]:
        try:
            async with writer.session() as opened, asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(opened, ask)) for ask in asked]
        except ExceptionGroup as several:
            raise several.exceptions[0] from None
        return [task.result() for task in tasks]

    return asyncio.run(all_of_them())
