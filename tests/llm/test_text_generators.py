"""One contract for every text generator: the fake, a model in this process, and a real server."""

from __future__ import annotations

import asyncio

import pytest

from asking import completions, outcome
from fake_generator import FakeGenerator
from trsr.config.summary import EndpointWriter, LocalWriter, Sampling
from trsr.llm.endpoint import EndpointGenerator
from trsr.llm.generator import Chat, Completion, TextGenerator
from trsr.llm.local import LocalGenerator

SAMPLING = Sampling(max_new_tokens=12)
CHATS = [
    Chat("What does this shopper like?", system="You write short profiles."),
    Chat("Tea."),
    Chat("title: cordless drill; brand: Bolt; price: 89; " * 4 + "new"),
    Chat("中文 é 👩‍🔧"),
    Chat("What does this shopper like?", system="You write long profiles."),
    Chat("Bought: tea pot\nNote: Buys tea.\n\nBought: drill\nNote:", is_continued=True),
]


@pytest.fixture(scope="module", params=["fake", "local", "endpoint"])
def generator(request: pytest.FixtureRequest) -> TextGenerator:
    if request.param == "fake":
        return FakeGenerator()
    if request.param == "local":
        folder = request.getfixturevalue("tiny_model_dir")
        return LocalGenerator(LocalWriter(kind="local", model=str(folder), device="cpu", batch_size=2))
    return EndpointGenerator(request.getfixturevalue("served_model"))


def ask(generator: TextGenerator, chats: list[Chat]) -> dict[int, Completion]:
    return dict(enumerate(completions(generator, chats, SAMPLING)))


def test_answers_every_chat_exactly_once(generator: TextGenerator) -> None:
    assert sorted(ask(generator, CHATS)) == [0, 1, 2, 3, 4, 5]


def test_answers_keep_the_limits_and_count_tokens(generator: TextGenerator) -> None:
    for completion in ask(generator, CHATS).values():
        assert completion.finish_reason in {"stop", "length"}
        assert 0 < completion.completion_tokens <= SAMPLING.max_new_tokens
        assert completion.prompt_tokens > 0
        assert completion.text == completion.text.strip()


def test_longer_prompts_count_more_tokens(generator: TextGenerator) -> None:
    answers = ask(generator, CHATS)
    assert answers[2].prompt_tokens > answers[0].prompt_tokens > answers[1].prompt_tokens


def test_greedy_answers_do_not_depend_on_order_or_batch_mates(generator: TextGenerator) -> None:
    together = ask(generator, CHATS)
    reversed_answers = ask(generator, CHATS[::-1])
    for place, chat in enumerate(CHATS):
        assert ask(generator, [chat])[0] == together[place] == reversed_answers[len(CHATS) - 1 - place]


def test_the_system_message_is_part_of_the_prompt(generator: TextGenerator) -> None:
    answers = ask(generator, [Chat("Tea."), Chat("Tea.", system="Count the pots of tea, all of them.")])
    assert answers[1].prompt_tokens > answers[0].prompt_tokens


def test_no_chats_no_answers(generator: TextGenerator) -> None:
    assert ask(generator, []) == {}


def test_is_named(generator: TextGenerator) -> None:
    assert generator.identity.strip()


def test_calls_under_way_may_be_let_go(generator: TextGenerator) -> None:
    async def ask_until_the_first() -> set[tuple[int, Completion]]:
        async with generator.session(SAMPLING) as answer:

            async def one(place: int) -> tuple[int, Completion]:
                found = await outcome(answer, CHATS[place])
                assert isinstance(found, Completion)
                return place, found

            calls = [asyncio.create_task(one(place)) for place in range(len(CHATS))]
            done, under_way = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            for call in under_way:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        return {call.result() for call in done}

    for place, completion in asyncio.run(ask_until_the_first()):
        assert ask(generator, [CHATS[place]])[0] == completion


def test_who_asks_later_is_answered_by_the_same_session(generator: TextGenerator) -> None:
    async def one_after_the_other() -> list[Completion]:
        async with generator.session(SAMPLING) as answer:
            return [await outcome(answer, chat) for chat in CHATS]  # type: ignore[misc]

    assert asyncio.run(one_after_the_other()) == completions(generator, CHATS, SAMPLING)


def test_the_server_and_this_process_answer_alike(served_model: EndpointWriter) -> None:
    local = LocalGenerator(LocalWriter(kind="local", model=served_model.model, device="cpu"))
    assert ask(local, CHATS) == ask(EndpointGenerator(served_model), CHATS)
