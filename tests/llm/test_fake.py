from __future__ import annotations

import asyncio

from asking import completions, outcomes
from fake_generator import FakeGenerator
from trsr.config.summary import Sampling
from trsr.errors import WriterError
from trsr.llm.generator import Chat, Completion

CHATS = [Chat("one"), Chat("two"), Chat("three")]


def test_fails_at_the_nth_call_of_its_life_and_only_then() -> None:
    fake = FakeGenerator(fail_at=2)
    [well, failed, later] = outcomes(fake, CHATS, Sampling())
    assert isinstance(well, Completion)
    assert isinstance(failed, WriterError)
    assert str(failed) == "fake@1: call 2 was told to fail"
    assert failed.retryable
    assert later is failed
    assert fake.chats == [Chat("one")]
    assert len(completions(fake, CHATS, Sampling())) == 3


def test_a_place_is_free_when_the_answer_before_is_stored() -> None:
    async def ask() -> list[str]:
        told = []
        async with FakeGenerator().session(Sampling()) as answer:

            async def one(name: str) -> None:
                async with answer(Chat(name)):
                    told.append(f"{name} begins")
                    await asyncio.sleep(0)
                    told.append(f"{name} ends")

            await asyncio.gather(one("a"), one("b"))
        return told

    assert asyncio.run(ask()) == ["a begins", "a ends", "b begins", "b ends"]


def test_cuts_long_answers_as_a_model_does() -> None:
    fake = FakeGenerator(lambda chat: "one two three")
    [completion] = completions(fake, CHATS[:1], Sampling(max_new_tokens=2))
    assert (completion.text, completion.completion_tokens, completion.finish_reason) == (
        "one two",
        2,
        "length",
    )
