from __future__ import annotations

import polars as pl

from trsr.records import CANDIDATES, ITEM, P_YES, SPLIT, TARGET, USER
from trsr.report.bill import BillLine, bill_lines
from trsr.report.page import split_scores


def test_figures_of_both_sides_are_put_beside_each_other() -> None:
    lines = bill_lines(
        {
            "planned": {"seconds": None, "money": 0.5, "calls": 10, "currency": "EUR"},
            "actual": {"seconds": 7.25, "calls": 8, "calls_reused": 2},
            "basis": "text",
            "finished": True,
            "earlier": [],
        }
    )
    assert lines == (
        BillLine("calls", 10.0, 8.0),
        BillLine("calls answered from the store", None, 2.0),
        BillLine("money (EUR)", 0.5, None),
        BillLine("seconds", None, 7.25),
    )


def test_earlier_commands_are_counted() -> None:
    bill = {"planned": {"calls": 1}, "actual": {"calls": 1}, "earlier": [{"planned": {}}, {"planned": {}}]}
    assert bill_lines(bill)[-1] == BillLine("earlier commands", None, 2.0)


def test_a_run_that_called_nothing_has_no_bill() -> None:
    assert bill_lines({"planned": {"calls": 0, "seconds": None}, "actual": {"calls": 0}}) == ()
    assert bill_lines({}) == ()


def test_what_is_no_figure_is_left_out() -> None:
    assert bill_lines({"planned": {"calls": 1, "exact": True}, "actual": None}) == (
        BillLine("calls", 1.0, None),
    )


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


def test_targets_and_negatives_of_one_split_alone_and_expected_places_for_ties() -> None:
    targets, negatives, ranks, candidates = split_scores(SCORES, CANDIDATES_FRAME, "test")
    assert targets == [0.2, 0.5]
    assert negatives == [0.1, 0.1, 0.2, 0.9]
    assert (ranks, candidates) == ([1.5, 2.0], 3)


def test_scores_written_twice_count_once() -> None:
    assert split_scores(pl.concat([SCORES, SCORES]), CANDIDATES_FRAME, "valid")[2:] == ([1.0], 2)


def test_nothing_scored_gives_nothing() -> None:
    assert split_scores(SCORES.clear(), CANDIDATES_FRAME, "test") == ([], [], [], 0)
