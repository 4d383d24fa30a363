import math

import pytest
from baselines_shop import DRILL, EMPTY, SAW, TEA, learnt_from, row

from trsr.baselines.simple import ItemNeighbours


def opened(*sequences: list[int]) -> ItemNeighbours:
    system = ItemNeighbours()
    system.fit(learnt_from(sequences))
    return system


def test_cosines_by_hand_and_newer_items_weigh_more() -> None:
    system = opened([DRILL, SAW], [SAW, DRILL, DRILL], [SAW, TEA])
    # drill 2 sequences, saw 3, tea 1; drill with saw twice, saw with tea once.
    drill_saw, saw_tea = 2 / math.sqrt(2 * 3), 1 / math.sqrt(3 * 1)
    [scores] = system.score(["u"], [row(DRILL, SAW)]).tolist()
    assert scores == pytest.approx([drill_saw, 0.8 * drill_saw, saw_tea, 0], abs=2e-4)


def test_items_never_seen_together_are_ordered_by_popularity_below_all_others() -> None:
    system = opened([DRILL, SAW], [TEA, TEA], [TEA, TEA])
    [scores] = system.score(["u"], [row(DRILL)]).tolist()
    assert scores[SAW] > scores[TEA] > scores[EMPTY] == 0
    [newcomer] = system.score(["u"], [row()]).tolist()
    assert newcomer[TEA] > newcomer[DRILL] == newcomer[SAW] > newcomer[EMPTY]


def test_nothing_to_learn_from_ties_everything() -> None:
    assert opened().score(["u"], [row(DRILL)]).tolist() == [[0] * 4]
