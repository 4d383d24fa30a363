from __future__ import annotations

import dataclasses

import tiny_shop


def test_all_candidates_share_the_prefix_and_an_item_has_one_suffix() -> None:
    ranker = tiny_shop.ranker()
    first, second = tiny_shop.users(2)
    second = dataclasses.replace(second, candidates=first.candidates)
    one, other = ranker.encode([first, second])
    assert one.suffixes == other.suffixes
    assert one.prefix != other.prefix
    assert one.row(3) == [*one.prefix, *one.suffixes[3]]
    assert one.target == first.target


def test_the_order_of_candidates_and_the_target_do_not_show_in_the_prompt() -> None:
    ranker = tiny_shop.ranker()
    user = tiny_shop.users(1)[0]
    turned = dataclasses.replace(user, candidates=user.candidates[::-1], target=4 - (user.target or 0))
    one, other = ranker.encode([user, turned])
    assert one.prefix == other.prefix
    assert one.suffixes == other.suffixes[::-1]
