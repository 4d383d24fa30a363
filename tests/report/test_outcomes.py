from __future__ import annotations

import polars as pl

from trsr.records import CANDIDATES, HISTORY, ITEM, P_YES, SPLIT, TARGET, USER
from trsr.report.figures import lengths_of, split_p_yes, split_ranks

CANDIDATES_FRAME = pl.DataFrame(
    {
        USER: ["a", "b", "c"],
        SPLIT: ["test", "test", "valid"],
        TARGET: ["x", "y", "x"],
        CANDIDATES: [["w", "x", "y"], ["x", "y", "z"], ["x", "y"]],
    }
)
SCORES = pl.DataFrame(
    {
        USER: ["a", "a", "a", "b", "b", "b", "c", "c"],
        ITEM: ["w", "x", "y", "x", "y", "z", "x", "y"],
        P_YES: [0.9, 0.5, 0.1, 0.2, 0.2, 0.1, 0.7, 0.6],
    }
)


def test_targets_and_negatives_of_one_split_alone() -> None:
    targets, negatives = split_p_yes(SCORES, CANDIDATES_FRAME, "test")
    assert targets == [0.2, 0.5]
    assert negatives == [0.1, 0.1, 0.2, 0.9]


def test_a_tied_target_takes_its_expected_place() -> None:
    assert split_ranks(SCORES, CANDIDATES_FRAME, "test") == ([1.5, 2.0], 3)


def test_scores_written_twice_count_once() -> None:
    assert split_ranks(pl.concat([SCORES, SCORES]), CANDIDATES_FRAME, "valid") == ([1.0], 2)


def test_nothing_scored_gives_nothing() -> None:
    assert split_ranks(SCORES.clear(), CANDIDATES_FRAME, "test") == ([], 0)
    assert split_p_yes(SCORES.clear(), CANDIDATES_FRAME, "test") == ([], [])


def test_lengths_count_items() -> None:
    assert lengths_of(pl.DataFrame({HISTORY: [["a", "b", "c"], ["a"]]})) == [1, 3]
