from __future__ import annotations

import pytest
import torch

from trsr.errors import ModelError
from trsr.ranking.shared_prefix.packing import UserPrompts, pack, share_rows


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
