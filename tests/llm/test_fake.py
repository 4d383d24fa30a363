from __future__ import annotations

import pytest

from trsr.config.summary import Sampling
from trsr.errors import WriterError
from trsr.llm.generator import Chat, FakeGenerator

CHATS = [Chat("one"), Chat("two"), Chat("three")]


def test_fails_at_the_nth_call_of_its_life_and_only_then() -> None:
    fake = FakeGenerator(fail_at=2)
    stream = fake.generate(CHATS, Sampling())
    assert next(stream)[0] == 2
    with pytest.raises(WriterError, match="call 2") as caught:
        next(stream)
    assert caught.value.retryable
    assert fake.chats == [Chat("three")]
    assert len(list(fake.generate(CHATS, Sampling()))) == 3


def test_cuts_long_answers_as_a_model_does() -> None:
    fake = FakeGenerator(lambda chat: "one two three")
    [(_, completion)] = fake.generate(CHATS[:1], Sampling(max_new_tokens=2))
    assert (completion.text, completion.completion_tokens, completion.finish_reason) == (
        "one two",
        2,
        "length",
    )
