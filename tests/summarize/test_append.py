from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_generator import FakeGenerator
from trsr.config.summary import LocalWriter, Sampling, Summarization
from trsr.errors import DataError
from trsr.llm.generator import TextGenerator
from trsr.llm.local import LocalGenerator
from trsr.prompts.item_text import ApproximateTokens
from trsr.prompts.templates import Templates
from trsr.records import ITEM, Block, Item, Summary, Usage, UserSummary
from trsr.summarize.keyphrase.writer import KeyphraseWriter
from trsr.summarize.llm_writer import LanguageModelWriter
from trsr.summarize.paradigms import Paradigm, cut, cut_by_tokens, open_paradigm
from trsr.summarize.store import Store
from trsr.summarize.summarizer import Growth, append, summarize

TITLES = [
    f"{kind} {thing} {number}"
    for number, kind in enumerate(["red", "oak", "tea"] * 4)
    for thing in ("pot", "saw")
]
CATALOGUE = pl.DataFrame({ITEM: [str(n) for n in range(len(TITLES))], "title": TITLES})
ITEMS = [Item(str(n), {"title": title}) for n, title in enumerate(TITLES)]
RECURRENT = open_paradigm("recurrent", Summarization())
ONE_LEVEL = open_paradigm("hierarchical", Summarization(fan_in=5))
MANY_LEVELS = open_paradigm("hierarchical", Summarization(fan_in=2))
PARADIGMS = [RECURRENT, ONE_LEVEL, MANY_LEVELS]


def blocks(count: int, size: int = 3) -> tuple[Block, ...]:
    return cut(ITEMS[:count], size)


def write(writer, paradigm: Paradigm, after: tuple[Block, ...]) -> UserSummary:
    return summarize([("u", after)], paradigm, writer, progress=False)[0]


def grow(writer, paradigm: Paradigm, summary: UserSummary, before, after) -> UserSummary:
    return append([Growth(summary, before, after)], paradigm, writer)[0]


def with_model(generator: TextGenerator, store: Store) -> LanguageModelWriter:
    sampling = Sampling(max_new_tokens=12)
    return LanguageModelWriter(
        generator, Templates("shopping"), sampling, store, ApproximateTokens(), 30, checks=("empty",)
    )


def texts(summary: UserSummary) -> tuple[str, list[str]]:
    return summary.final.text, [step.text for step in summary.steps]


@pytest.mark.parametrize("paradigm", PARADIGMS, ids=["recurrent", "one level", "many levels"])
@given(sizes=st.lists(st.integers(0, 7), min_size=2, max_size=4), size=st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_appending_is_the_same_as_writing_anew_with_the_keyphrase_writer(
    paradigm: Paradigm, sizes: list[int], size: int
) -> None:
    writer = KeyphraseWriter(CATALOGUE, "shopping", decay=0.6, phrases=4)
    count, summary = 0, write(writer, paradigm, ())
    for new in sizes:
        before, after = blocks(count, size), blocks(count + new, size)
        summary, count = grow(writer, paradigm, summary, before, after), min(count + new, len(ITEMS))
    whole = write(writer, paradigm, blocks(count, size))
    assert (summary.final.text, summary.final.state) == (whole.final.text, whole.final.state)
    assert [(step.text, step.state) for step in summary.steps] == [(s.text, s.state) for s in whole.steps]


@pytest.mark.parametrize("paradigm", PARADIGMS, ids=["recurrent", "one level", "many levels"])
def test_appending_is_the_same_as_writing_anew_with_a_real_model(tiny_model_dir, paradigm: Paradigm) -> None:
    generator = LocalGenerator(LocalWriter(kind="local", model=str(tiny_model_dir), device="cpu"))
    with Store("sqlite://") as ours, Store("sqlite://") as theirs:
        writer = with_model(generator, ours)
        first = write(writer, paradigm, blocks(4))
        summary = grow(writer, paradigm, first, blocks(4), blocks(11))
        whole = write(with_model(generator, theirs), paradigm, blocks(11))
    assert whole.final.text
    assert texts(summary) == texts(whole)


@pytest.mark.parametrize(
    ("paradigm", "before", "after", "calls"),
    [
        (RECURRENT, 6, 9, 1),  # a full block more
        (RECURRENT, 6, 7, 1),  # a block begun
        (RECURRENT, 7, 8, 1),  # a block begun goes on
        (RECURRENT, 7, 9, 1),  # and is full
        (RECURRENT, 7, 10, 2),  # is full, and another one begins
        (RECURRENT, 6, 12, 2),
        (RECURRENT, 0, 2, 1),  # somebody new
        (RECURRENT, 6, 6, 0),
        (ONE_LEVEL, 6, 7, 2),  # the block, and the combining
        (ONE_LEVEL, 7, 9, 2),
        (ONE_LEVEL, 7, 10, 3),
        (ONE_LEVEL, 6, 6, 0),
        (MANY_LEVELS, 12, 13, 2),  # the lower pairs are stored
    ],
)
def test_only_blocks_that_changed_are_paid_for(
    paradigm: Paradigm, before: int, after: int, calls: int
) -> None:
    fake = FakeGenerator(
        lambda chat: f"Likes {hash(chat) % 1000} things, {chat.user.count('title')} of them new."
    )
    with Store("sqlite://") as store:
        writer = with_model(fake, store)
        summary = write(writer, paradigm, blocks(before))
        asked = len(fake.chats)
        grown = grow(writer, paradigm, summary, blocks(before), blocks(after))
        assert len(fake.chats) - asked == calls
        assert grown.usage.calls == (calls or summary.usage.calls)
        assert texts(grown) == texts(write(writer, paradigm, blocks(after)))


def test_blocks_cut_by_tokens_grow_too() -> None:
    writer = KeyphraseWriter(CATALOGUE, "shopping", decay=0.6, phrases=4)
    before, after = (
        cut_by_tokens(ITEMS[:count], 10, ApproximateTokens(), lambda item: item.fields["title"])
        for count in (7, 12)
    )
    grown = grow(writer, RECURRENT, write(writer, RECURRENT, before), before, after)
    assert grown.final == write(writer, RECURRENT, after).final


def test_a_user_whose_summary_had_failed_is_written_from_the_beginning() -> None:
    writer = KeyphraseWriter(CATALOGUE, "shopping", decay=0.6, phrases=4)
    failed = UserSummary("u", Summary(""), (), Usage(), failed="refusal")
    grown = grow(writer, RECURRENT, failed, blocks(6), blocks(6))
    assert texts(grown) == texts(write(writer, RECURRENT, blocks(6)))
    assert not grown.failed


def test_a_summary_of_other_blocks_is_refused() -> None:
    writer = KeyphraseWriter(CATALOGUE, "shopping", decay=0.6, phrases=4)
    summary = write(writer, RECURRENT, blocks(6))
    with pytest.raises(DataError, match="'u' has 1 steps for 2 blocks"):
        grow(writer, RECURRENT, replace(summary, steps=summary.steps[:1]), blocks(6), blocks(9))


def test_many_users_grow_in_one_call_and_keep_their_order() -> None:
    writer = KeyphraseWriter(CATALOGUE, "shopping", decay=0.6, phrases=4)
    counts = [(3, 4), (6, 6), (0, 5), (5, 9)]
    users = summarize(
        [(str(n), blocks(old)) for n, (old, _) in enumerate(counts)], RECURRENT, writer, progress=False
    )
    growths = [Growth(user, blocks(old), blocks(new)) for user, (old, new) in zip(users, counts, strict=True)]
    grown = append(growths, RECURRENT, writer)
    assert [user.user_id for user in grown] == ["0", "1", "2", "3"]
    whole = [write(writer, RECURRENT, blocks(new)) for _, new in counts]
    assert [texts(user) for user in grown] == [texts(user) for user in whole]
