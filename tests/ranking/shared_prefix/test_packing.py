from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trsr.errors import ModelError
from trsr.ranking.shared_prefix.layout import UserPrompts, divide, factor, pack, share_rows


def test_users_lie_behind_each_other_without_padding() -> None:
    packed = pack([UserPrompts([1, 2], [[3], [4, 5]]), UserPrompts([], [[6]])])
    assert packed.ids.tolist() == [[1, 2, 3, 4, 5, 6]]
    assert packed.layout.positions.tolist() == [0, 1, 2, 2, 3, 0]


@pytest.mark.parametrize("users", [[], [UserPrompts([1], [])], [UserPrompts([1], [[2], []])]])
def test_nothing_to_answer_is_refused(users: list[UserPrompts]) -> None:
    with pytest.raises(ModelError, match="one candidate at least"):
        pack(users)


def test_moving_a_pack_moves_its_layout() -> None:
    packed = pack([UserPrompts([1, 2], [[3], [4, 5]])])
    assert packed.to("cpu") is packed
    moved = packed.to(torch.device("meta"))
    assert moved.ids.device.type == moved.layout.device.type == "meta"
    assert moved.layout.segments[0].fold.lengths == (1, 2)


def test_rows_keep_the_order_and_the_budget() -> None:
    users = [UserPrompts([1] * size, [[2]]) for size in (3, 5, 1, 20, 1)]
    assert share_rows(users, 10) == [[0, 1], [2], [3], [4]]
    assert share_rows(users, 0) == [[0], [1], [2], [3], [4]]
    assert share_rows([], 10) == []


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 30))
def test_groups_keep_every_candidate_in_order_within_the_budget(sizes: list[int], budget: int) -> None:
    suffixes = [[number] * size for number, size in enumerate(sizes)]
    groups = divide(UserPrompts([1], suffixes), budget)
    assert [suffix for group in groups for suffix in group.suffixes] == suffixes
    for group in groups:
        assert len(group.suffixes) == 1 or sum(map(len, group.suffixes)) <= budget


def test_groups_are_about_equal() -> None:
    groups = divide(UserPrompts([], [[0] * 40] * 27), budget=1024)
    assert [len(group.suffixes) for group in groups] == [14, 13]


IDS = st.lists(st.integers(0, 1), min_size=1, max_size=4)


@given(IDS, st.lists(IDS, min_size=1, max_size=4))
def test_factoring_keeps_every_prompt(prefix: list[int], suffixes: list[list[int]]) -> None:
    user = UserPrompts(prefix, suffixes)
    got = factor(user)
    prompts = [[*user.prefix, *suffix] for suffix in user.suffixes]
    assert [[*got.prefix, *suffix] for suffix in got.suffixes] == prompts
    assert all(got.suffixes)
    # Nothing common is left, unless a candidate would be used up or there is none to share with.
    assert (
        len(prompts) == 1
        or min(map(len, got.suffixes)) == 1
        or len({suffix[0] for suffix in got.suffixes}) > 1
    )
