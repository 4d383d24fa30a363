from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from fake_generator import FakeGenerator
from trsr.config.summary import LocalWriter, Sampling, Summarization
from trsr.llm.generator import ApproximateChatTokens, ChatTokens, TokenizerChatTokens
from trsr.llm.local import LocalGenerator, find_style, identify
from trsr.prompts.item_text import ApproximateTokens
from trsr.prompts.templates import Templates
from trsr.records import Block, Item, Usage
from trsr.summarize.forecast import Experience, Planner, learn
from trsr.summarize.llm_writer import LanguageModelWriter, Wording
from trsr.summarize.paradigms import Paradigm, cut, open_paradigm
from trsr.summarize.store import Store
from trsr.summarize.summarizer import summarize

SAMPLING = Sampling(max_new_tokens=30)
TEMPLATES = Templates("shopping")
RECURRENT = open_paradigm("recurrent", Summarization())
PARADIGMS = [RECURRENT, open_paradigm("hierarchical", Summarization(fan_in=2))]
SECTIONS = open_paradigm("sections", Summarization())


def users(count: int) -> list[tuple[str, tuple[Block, ...]]]:
    """Users of unlike length; every third has the same first block."""
    return [
        (
            f"u{n}",
            cut([Item("", {"title": f"thing {n % 3 if i < 2 else 10 * n + i}"}) for i in range(n + 1)], 2),
        )
        for n in range(count)
    ]


class Plan(NamedTuple):
    paid: Usage
    reused: int


def plan(store: Store, paradigm: Paradigm, tokens: ChatTokens, model: str, who, style: str = "chat") -> Plan:
    wording = Wording(model, TEMPLATES, SAMPLING, ApproximateTokens(), 30, style)
    experience = learn(store, model, tokens, SAMPLING)
    planner = Planner(wording, store, ("empty",), tokens, experience)
    written = summarize(who, paradigm, planner, progress=False)
    reused = sum(summary.usage.calls_reused for summary in written)
    assert sum(summary.usage.calls for summary in written) == planner.paid.calls
    return Plan(planner.paid, reused)


def writer(generator, store: Store) -> LanguageModelWriter:
    return LanguageModelWriter(
        generator, TEMPLATES, SAMPLING, store, ApproximateTokens(), 30, checks=("empty",)
    )


@pytest.mark.parametrize("paradigm", [*PARADIGMS, SECTIONS], ids=["recurrent", "hierarchical", "sections"])
def test_a_plan_counts_the_calls_of_a_run_and_what_of_it_is_stored(paradigm: Paradigm) -> None:
    begin = "ADD lately:" if paradigm is SECTIONS else "Likes"
    fake = FakeGenerator(lambda chat: f"{begin} {hash(chat)}.")  # equal answers would make equal prompts
    tokens = ApproximateChatTokens()
    with Store("sqlite://") as store:
        whole = plan(store, paradigm, tokens, fake.identity, users(7))
        summarize(users(4), paradigm, writer(fake, store), progress=False)
        partly = plan(store, paradigm, tokens, fake.identity, users(7))
        done = len(fake.chats)
        summarize(users(7), paradigm, writer(fake, store), progress=False)
        nothing = plan(store, paradigm, tokens, fake.identity, users(7))
    assert (whole.paid.calls, partly.paid.calls, nothing.paid.calls) == (
        len(fake.chats),
        len(fake.chats) - done,
        0,
    )
    assert whole.paid.calls + whole.reused == nothing.reused
    assert nothing.paid == Usage()


@pytest.mark.parametrize("paradigm", PARADIGMS, ids=["recurrent", "hierarchical"])
def test_with_the_models_own_tokenizer_prompts_are_counted_to_the_token(
    tiny_model_dir: Path, paradigm: Paradigm
) -> None:
    config = LocalWriter(kind="local", model=str(tiny_model_dir), device="cpu")
    tokens = TokenizerChatTokens(config.model)
    with Store("sqlite://") as store:
        model = identify(config)
        first = [(user, blocks[:1]) for user, blocks in users(5)]
        described = plan(store, paradigm, tokens, model, first, find_style(config))
        real = summarize(first, paradigm, writer(LocalGenerator(config), store), progress=False)
        paid = sum((summary.usage for summary in real if summary.usage.calls), Usage())
        assert (described.paid.calls, described.paid.prompt_tokens) == (paid.calls, paid.prompt_tokens)
        # What is known of answers now makes the rest of the bill: later prompts hold them.
        planned = plan(store, paradigm, tokens, model, users(5), find_style(config))
        real = summarize(users(5), paradigm, writer(LocalGenerator(config), store), progress=False)
    paid = sum((summary.usage for summary in real), Usage())
    assert planned.paid.calls == paid.calls
    assert planned.paid.completion_tokens == pytest.approx(30 * paid.calls, rel=0.4)


def test_answers_of_unknown_length_are_taken_at_their_limit() -> None:
    with Store("sqlite://") as store:
        planner = plan(store, RECURRENT, ApproximateChatTokens(), "m", users(3))
        assert planner.paid.completion_tokens == 30 * planner.paid.calls


def test_experience_is_that_of_the_model_alone_and_corrects_the_count() -> None:
    fake, tokens = FakeGenerator(), ApproximateChatTokens()
    with Store("sqlite://") as store:
        assert learn(store, fake.identity, tokens, SAMPLING) == Experience()
        summarize(users(4), RECURRENT, writer(fake, store), progress=False)
        assert learn(store, "another", tokens, SAMPLING) == Experience()
        learnt = learn(store, fake.identity, tokens, SAMPLING)
    assert learnt.ratio == pytest.approx(1.0)  # it counts as the fake does
    assert learnt.error == pytest.approx(0.0, abs=1e-9)
    assert learnt.lengths["update"] == pytest.approx(8, abs=2)
    assert learnt.seen == len(fake.chats)


def test_a_plan_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "answers.db"
    with Store(f"sqlite:///{path}") as store:
        before = path.read_bytes()
        plan(store, RECURRENT, ApproximateChatTokens(), "m", users(6))
        assert path.read_bytes() == before
