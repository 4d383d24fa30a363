from __future__ import annotations

from trsr.report.content import BillLine
from trsr.report.figures import bill_lines


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
