from __future__ import annotations

import pytest
import torch
from small_models import ANSWERS, PACKED, make, one_by_one, users

from trsr.errors import ModelError
from trsr.ranking.shared_prefix.attention import Attachment
from trsr.ranking.shared_prefix.forward import PrefixMemory, packed_logits, remembered_logits, scored_logits
from trsr.ranking.shared_prefix.layout import UserPrompts, pack


@pytest.mark.parametrize("architecture", PACKED)
@pytest.mark.parametrize("trims", [False, True])
def test_second_request_costs_the_candidates_alone(architecture: str, trims: bool) -> None:
    model = make(PACKED[architecture])
    first, second = users((11, (5, 3, 9)))[0], users((0, (4, 1)), seed=1)[0]
    again = UserPrompts(first.prefix, second.suffixes)
    with torch.no_grad():
        expected = [one_by_one(model, [first]), one_by_one(model, [again])]
    Attachment(model)
    tokens: list[int] = []
    model.register_forward_pre_hook(
        lambda _, __, inputs: tokens.append(inputs["input_ids"].shape[1]), with_kwargs=True
    )
    memory = PrefixMemory(10**6)
    got = [
        scored_logits(model, user, ANSWERS, budget=99, trims=trims, memory=memory) for user in (first, again)
    ]
    assert tokens == [11 + 17, 5]
    for values, wanted in zip(got, expected, strict=True):
        assert (values - wanted).abs().max() < 1e-5


@pytest.mark.parametrize("architecture", PACKED)
def test_users_share_rows_whether_or_not_their_prefixes_are_held(architecture: str) -> None:
    model = make(PACKED[architecture])
    asked = users((11, (5, 3)), (7, (4, 2)), (0, (3,)), (9, (6, 1)), (7, (2, 2)))
    later = [UserPrompts(user.prefix, [*user.suffixes[::-1], [7, 8]]) for user in asked]
    with torch.no_grad():
        expected = [one_by_one(model, part) for part in (asked[:2], later)]
    Attachment(model)
    rows: list[int] = []
    model.register_forward_pre_hook(
        lambda _, __, inputs: rows.append(inputs["input_ids"].shape[1]), with_kwargs=True
    )
    memory = PrefixMemory(10**6)
    for part, wanted in zip((asked[:2], later), expected, strict=True):
        got = remembered_logits(model, part, ANSWERS, budget=50, memory=memory)
        assert (got - wanted).abs().max() < 1e-5
    assert len(memory) == 4
    if getattr(model.config, "sliding_window", None) is None:
        # Together: two users, and later all of them in two rows, the first two without their prefixes.
        assert rows == [11 + 8 + 7 + 6, 10 + 8 + 5 + 9 + 9, 7 + 6]


def test_an_empty_prefix_is_not_held() -> None:
    model = make(PACKED["llama"])
    Attachment(model)
    memory = PrefixMemory(10**6)
    user = users((0, (4, 2)))[0]
    for _ in range(2):
        got = scored_logits(model, user, ANSWERS, budget=99, memory=memory)
    assert len(memory) == 0
    assert (got - one_by_one(model, [user])).abs().max() < 1e-5


def layers(size: int) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    return {0: (torch.zeros(size, dtype=torch.uint8), torch.zeros(0, dtype=torch.uint8))}


def test_what_was_asked_for_longest_ago_goes_first() -> None:
    memory = PrefixMemory(10)
    memory.put([1], layers(4))
    memory.put([2], layers(4))
    assert memory.get([1]) is not None
    memory.put([3], layers(4))
    assert memory.get([2]) is None
    assert memory.get([1]) is not None
    assert (len(memory), memory.held_bytes) == (2, 8)
    memory.put([1], layers(6))
    assert (len(memory), memory.held_bytes) == (2, 10)
    # Larger than all the room: not held, and nothing else has to go.
    memory.put([4], layers(11))
    assert (len(memory), memory.held_bytes) == (2, 10)
    memory.clear()
    assert (len(memory), memory.held_bytes, memory.get([1])) == (0, 0, None)


def test_a_row_without_its_prefix_needs_the_keys() -> None:
    model = make(PACKED["llama"])
    Attachment(model)
    with pytest.raises(ModelError, match="no keys of one were handed in"):
        packed_logits(model, pack(users((3, (2,))), is_held=True), ANSWERS)


def test_what_candidates_begin_with_is_read_once_and_not_held() -> None:
    model = make(PACKED["llama"])
    first, other = UserPrompts([3, 4, 5], [[7, 8, 2], [7, 8, 3, 4]]), UserPrompts([3, 4, 5], [[9, 2], [7, 1]])
    expected = [one_by_one(model, [user]) for user in (first, other)]
    Attachment(model)
    tokens: list[int] = []
    model.register_forward_pre_hook(
        lambda _, __, inputs: tokens.append(inputs["input_ids"].shape[1]), with_kwargs=True
    )
    memory = PrefixMemory(10**6)
    for user, wanted in zip((first, other), expected, strict=True):
        assert (scored_logits(model, user, ANSWERS, budget=99, memory=memory) - wanted).abs().max() < 1e-5
    assert tokens == [3 + 2 + 3, 4]
    held = memory.get(first.prefix)
    assert held is not None
    assert {part.shape[2] for pair in held.values() for part in pair} == {3}
