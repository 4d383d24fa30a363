import pytest
from hypothesis import given
from hypothesis import strategies as st

from trsr.errors import ConfigError
from trsr.prompts.item_text import ApproximateTokens
from trsr.records import Item
from trsr.summarize.paradigms import cut, cut_by_tokens


def history(*titles: str) -> list[Item]:
    return [Item(str(number), {"title": title}) for number, title in enumerate(titles)]


def line(item: Item) -> str:
    return item.fields["title"]


def ids(blocks) -> list[list[str]]:
    return [[item.id for item in block.items] for block in blocks]


def test_cuts_oldest_first_and_the_newest_block_may_be_shorter():
    blocks = cut(history(*"abcdefg"), 3)
    assert ids(blocks) == [["0", "1", "2"], ["3", "4", "5"], ["6"]]
    assert [block.index for block in blocks] == [0, 1, 2]


def test_full_blocks_leave_no_empty_one_behind():
    assert ids(cut(history(*"abcd"), 2)) == [["0", "1"], ["2", "3"]]


def test_empty_history_has_no_block():
    assert cut([], 5) == ()
    assert cut_by_tokens([], 10, ApproximateTokens(), line) == ()


@pytest.mark.parametrize("size", [0, -1])
def test_size_below_one_is_refused(size):
    with pytest.raises(ConfigError, match=f"size must be at least 1, got {size}"):
        cut(history("a"), size)
    with pytest.raises(ConfigError, match=f"max_tokens must be at least 1, got {size}"):
        cut_by_tokens(history("a"), size, ApproximateTokens(), line)


def test_token_budget_fills_blocks_and_an_oversized_item_stands_alone():
    items = history("a b", "c", "d e f g h", "i", "j k")
    assert ids(cut_by_tokens(items, 3, ApproximateTokens(), line)) == [["0", "1"], ["2"], ["3", "4"]]


@given(st.lists(st.text("ab ", max_size=20), max_size=12), st.integers(1, 8))
def test_token_blocks_hold_every_item_once_in_order(titles, budget):
    tokens = ApproximateTokens()
    blocks = cut_by_tokens(history(*titles), budget, tokens, line)
    assert [item for block in blocks for item in block.items] == history(*titles)
    assert all(block.items for block in blocks)
    for block in blocks:
        assert len(block.items) == 1 or sum(tokens.count(line(item)) for item in block.items) <= budget


@given(st.integers(0, 40), st.integers(1, 9))
def test_blocks_hold_every_item_once_in_order(count, size):
    items = history(*("x" * count))
    blocks = cut(items, size)
    assert [item for block in blocks for item in block.items] == items
    assert all(len(block.items) == size for block in blocks[:-1])
    assert len(blocks) == -(-count // size)
