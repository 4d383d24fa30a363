from __future__ import annotations

import json
from pathlib import Path

import polars as pl

from trsr.artifacts import RunFolder
from trsr.records import FAILED, USER
from trsr.report.content import BillLine, Failure
from trsr.stages.report import _bill, _failures


def test_users_whose_summary_failed_are_listed_by_their_ids() -> None:
    summaries = pl.DataFrame({USER: ["c", "a", "b"], FAILED: ["empty answer", "", "refused"]})
    assert _failures(summaries) == (Failure("b", "refused"), Failure("c", "empty answer"))


def test_summaries_from_before_failures_were_told_have_none() -> None:
    assert _failures(pl.DataFrame({USER: ["a"]})) == ()


def test_the_bill_is_read_when_the_run_has_one(tmp_path: Path) -> None:
    assert _bill(RunFolder(tmp_path)) == ()
    (tmp_path / "bill.json").write_text(json.dumps({"planned": {"calls": 4}, "actual": {"calls": 3}}))
    assert _bill(RunFolder(tmp_path)) == (BillLine("calls", 4.0, 3.0),)
