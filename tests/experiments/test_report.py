from __future__ import annotations

import json
from pathlib import Path

import polars as pl

from trsr.artifacts import RunFolder
from trsr.experiments.report import _bill, _failures, _usage
from trsr.records import CALLS, COMPLETION_TOKENS, FAILED, PROMPT_TOKENS, USER
from trsr.report.bill import BillLine


def test_users_whose_summary_failed_are_listed_by_their_ids() -> None:
    summaries = pl.DataFrame({USER: ["c", "a", "b"], FAILED: ["empty answer", "", "refused"]})
    assert list(_failures(summaries).items()) == [("b", "refused"), ("c", "empty answer")]


def test_summaries_from_before_failures_were_told_have_none() -> None:
    assert _failures(pl.DataFrame({USER: ["a"]})) == {}


def test_the_bill_is_read_when_the_run_has_one(tmp_path: Path) -> None:
    assert _bill(RunFolder(tmp_path)) == ()
    (tmp_path / "bill.json").write_text(json.dumps({"planned": {"calls": 4}, "actual": {"calls": 3}}))
    assert _bill(RunFolder(tmp_path)) == (BillLine("calls", 4.0, 3.0),)


def test_calls_of_a_user_whose_tokens_nobody_told_count_as_unreported() -> None:
    summaries = pl.DataFrame({CALLS: [3, 2], PROMPT_TOKENS: [90, None], COMPLETION_TOKENS: [9, None]})
    usage = _usage(summaries)
    assert (usage.calls, usage.prompt_tokens, usage.completion_tokens) == (5, 90, 9)
    assert usage.calls_unreported == 2
