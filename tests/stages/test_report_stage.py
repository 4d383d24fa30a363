from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from trsr.stages.report import _best_baseline, _bill, _failures, metric_tables

from trsr.artifacts import RunFolder
from trsr.errors import ArtifactError
from trsr.records import FAILED, USER
from trsr.report.run import BillLine


def metrics(**splits: float) -> dict[str, Any]:
    def entry(mean: float) -> dict[str, Any]:
        value = {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}
        return {"users": 9, "tie_rate": 0.0, "metrics": {"NDCG@10": value, "AUC": value}}

    own = {split: entry(mean) for split, mean in splits.items()}
    others = {name: {"test": entry(0.9), "valid": entry(mean)} for name, mean in (("a", 0.1), ("b", 0.2))}
    return {"sampler": "uniform", "negatives": 20, "systems": {"lm": own, **others}}


def test_users_whose_summary_failed_are_listed_by_their_ids() -> None:
    summaries = pl.DataFrame({USER: ["c", "a", "b"], FAILED: ["empty answer", "", "refused"]})
    assert list(_failures(summaries).items()) == [("b", "refused"), ("c", "empty answer")]


def test_summaries_from_before_failures_were_told_have_none() -> None:
    assert _failures(pl.DataFrame({USER: ["a"]})) == {}


def test_the_bill_is_read_when_the_run_has_one(tmp_path: Path) -> None:
    assert _bill(RunFolder(tmp_path)) == ()
    (tmp_path / "bill.json").write_text(json.dumps({"planned": {"calls": 4}, "actual": {"calls": 3}}))
    assert _bill(RunFolder(tmp_path)) == (BillLine("calls", 4.0, 3.0),)


def test_the_test_users_come_first_and_a_split_without_users_has_no_table() -> None:
    found = metric_tables(metrics(valid=0.4, test=0.5), "lm")
    assert [(table.split, table.candidates, len(table.rows)) for table in found] == [
        ("test", 21, 3),
        ("valid", 21, 3),
    ]
    nobody = metrics(test=0.5)
    for splits in nobody["systems"].values():
        splits["test"]["users"] = 0
    assert [table.split for table in metric_tables(nobody, "lm")] == ["valid"]


def test_a_number_that_could_not_be_computed_is_none_of_the_figures() -> None:
    raw = metrics(test=0.5)
    raw["systems"]["lm"]["test"]["metrics"]["AUC"] = {"mean": None, "low": None, "high": None}
    [own, *_] = metric_tables(raw, "lm")[0].rows
    assert math.isnan(own.mean("AUC"))


def test_the_best_baseline_is_chosen_on_validation_users() -> None:
    tables = metric_tables(metrics(valid=0.4, test=0.5), "lm")
    choice = _best_baseline(tables, ["a", "b"], "NDCG@10")
    assert choice is not None
    assert choice.chosen == "b"
    assert _best_baseline(tables[:1], ["a", "b"], "NDCG@10") is None
    assert _best_baseline(tables, [], "NDCG@10") is None


def test_an_unknown_system_names_those_that_are_there() -> None:
    with pytest.raises(ArtifactError, match=r"no system 'gpt' but lm, a, b; run `trsr evaluate`"):
        metric_tables(metrics(test=0.5), "gpt")


@pytest.mark.parametrize(
    "broken", [{}, {"systems": {"lm": {"test": {}}}}, {"systems": {"lm": {"test": None}}}]
)
def test_metrics_of_another_form_are_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError, match="not of the form"):
        metric_tables(broken, "lm")
