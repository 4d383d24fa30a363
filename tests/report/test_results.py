from __future__ import annotations

import math

import pytest

from trsr.evaluation.statistics import Estimate, PairedTest
from trsr.report.results import (
    Kind,
    MetricTable,
    Provenance,
    Results,
    System,
    SystemRow,
    TwoStage,
    system_rows,
)


def row(name: str, mean: float, **more: object) -> SystemRow:
    value = Estimate(mean, mean - 0.1, mean + 0.1)
    return SystemRow(name, 9, {"AUC": value, "Recall@3": value}, **more)  # type: ignore[arg-type]


def table(*rows: SystemRow, tests: tuple[PairedTest, ...] = ()) -> MetricTable:
    return MetricTable("uniform", 21, rows, tests)


def test_rows_fall_by_a_metric_and_equal_ones_keep_their_order() -> None:
    made = table(row("b", 0.5), row("a", 0.5), row("c", 0.9))
    assert [found.system for found in made.ranked("Recall@3")] == ["c", "b", "a"]
    assert made.metrics == ("Recall@3", "AUC")


def test_only_a_test_makes_a_tie() -> None:
    rows = [
        row("a", 0.9),
        row("b", 0.8, p_against_best={"AUC": 0.05}),
        row("c", 0.7, p_against_best={"AUC": 0.049}),
        row("d", 0.6),
    ]
    made = table(*rows)
    assert [made.is_tied(found, "AUC") for found in rows] == [False, True, False, False]
    assert not any(made.is_tied(found, "Recall@3") for found in rows)
    assert made.is_tested("AUC")
    assert not made.is_tested("Recall@3")


def test_the_spread_over_seeds_needs_two() -> None:
    assert row("b", 0.5, by_seed={"AUC": (0.5,)}).spread("AUC") is None
    assert row("a", 0.5, by_seed={"AUC": (0.4, 0.6)}).spread("AUC") == pytest.approx(math.sqrt(0.02))


def test_a_row_without_the_metric_comes_last_and_nan_is_never_the_best() -> None:
    made = table(SystemRow("x", 9, {}), row("nan", math.nan), row("a", 0.1))
    assert made.ranked("AUC")[0].system == "a"
    assert made.best("AUC") == 0.1
    assert math.isnan(made.best("MRR@3"))


def test_exact_metrics_stand_in_the_order_of_the_columns() -> None:
    assert table(row("a", 0.5, exact={"AUC": 0.5, "Recall@3": 0.4}), row("b", 0.4)).exact_metrics == (
        "Recall@3",
        "AUC",
    )


def test_a_paired_test_is_found_in_either_order() -> None:
    test = PairedTest("a", "b", "AUC", 9, Estimate(0.1, 0.05, 0.2), 5, 1, 3, 0.01, 0.02)
    made = table(row("a", 0.6), row("b", 0.5), tests=(test,))
    assert made.test("a", "b", "AUC") == test
    turned = made.test("b", "a", "AUC")
    assert turned is not None
    assert (turned.difference, turned.wins, turned.losses) == (Estimate(-0.1, -0.2, -0.05), 1, 5)
    assert made.test("a", "b", "Recall@3") is None


def test_every_figure_has_a_column_that_says_among_what_it_was_measured() -> None:
    valid = MetricTable("uniform", 21, (row("a", 0.4),), split="valid")
    test = table(row("a", 0.5, by_seed={"AUC": (0.4, 0.6)}, exact={"AUC": 0.3}, tie_rate=0.25), row("b", 0.9))
    results = Results(
        "demo",
        "AUC",
        (System("a", training_negatives="4, uniform", seconds=1.5), System("b", kind=Kind.FUSED)),
        (test, valid),
        Provenance("", ""),
        two_stage=TwoStage("b", 20, Estimate(1, 1, 1), (row("b", 0.7),)),
    )
    rows = {found["system"]: found for found in system_rows(results).iter_rows(named=True)}
    first, second = rows["a"], rows["b"]
    assert (first["uniform AUC"], first["uniform AUC low"], first["uniform AUC expected"]) == (0.5, 0.4, 0.3)
    assert first["uniform AUC sd over seeds"] == pytest.approx(math.sqrt(0.02))
    assert (first["valid uniform AUC"], first["uniform tie rate"], first["training_seconds"]) == (
        0.4,
        0.25,
        1.5,
    )
    assert first["two-stage AUC"] is None
    assert (second["two-stage AUC"], second["kind"], second["valid uniform AUC"]) == (0.7, "fused", None)


def test_a_name_that_no_system_explains_is_a_baseline_shown_as_it_is() -> None:
    results = Results(
        "demo", "AUC", (System("lm", "Our model", Kind.LANGUAGE_MODEL),), (), Provenance("", "")
    )
    assert [results.label(name) for name in ("lm", "tfidf", "mine")] == [
        "Our model",
        "TF-IDF similarity",
        "mine",
    ]
    assert results.kind("lm") is Kind.LANGUAGE_MODEL
    assert results.kind("mine") is Kind.BASELINE
