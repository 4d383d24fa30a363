from __future__ import annotations

import csv
import math
from io import StringIO

from trsr.evaluation.statistics import Estimate
from trsr.report.comparison.board import board, to_csv
from trsr.report.comparison.results import Roster, Standing, System

ROSTER = Roster((System("b", training_examples=7, training_negatives="4, uniform"), System("a")))


def standing(name: str, mean: float, **more: object) -> Standing:
    value = Estimate(mean, mean - 0.1, mean + 0.1)
    return Standing(name, 9, {"AUC": value, "Recall@3": value}, **more)  # type: ignore[arg-type]


def test_rows_fall_by_the_primary_measure_and_ties_keep_the_comparison_s_order() -> None:
    made = board("uniform", [standing("a", 0.5), standing("b", 0.5), standing("c", 0.9)], ROSTER, "Recall@3")
    assert [line.system.name for line in made.lines] == ["c", "b", "a"]
    assert made.names == ("Recall@3", "AUC")


def test_equal_bests_are_both_the_best() -> None:
    made = board("uniform", [standing("a", 0.5), standing("b", 0.5)], ROSTER, "AUC")
    assert [line.cells["AUC"].is_best for line in made.lines] == [True, True]


def test_only_a_test_makes_a_tie() -> None:
    rows = [
        standing("a", 0.9),
        standing("b", 0.8, p_against_best={"AUC": 0.05}),
        standing("c", 0.7, p_against_best={"AUC": 0.049}),
        standing("d", 0.6),
    ]
    made = board("uniform", rows, ROSTER, "AUC")
    assert [line.cells["AUC"].is_tied for line in made.lines] == [False, True, False, False]
    assert not any(line.cells["Recall@3"].is_tied for line in made.lines)
    assert made.is_tested
    assert not board("uniform", rows, ROSTER, "Recall@3").is_tested


def test_the_spread_over_seeds_needs_two() -> None:
    rows = [standing("a", 0.5, by_seed={"AUC": (0.4, 0.6)}), standing("b", 0.5, by_seed={"AUC": (0.5,)})]
    spreads = {line.system.name: line.cells["AUC"].spread for line in board("u", rows, ROSTER, "AUC").lines}
    assert spreads["b"] is None
    assert spreads["a"] is not None
    assert math.isclose(spreads["a"], math.sqrt(0.02))


def test_a_row_without_the_primary_measure_comes_last_and_nan_is_never_the_best() -> None:
    rows = [Standing("x", 9, {}), standing("nan", math.nan), standing("a", 0.1)]
    made = board("uniform", rows, ROSTER, "AUC")
    assert made.lines[0].system.name == "a"
    assert [line.cells["AUC"].is_best for line in made.lines if "AUC" in line.cells] == [True, False]


def test_exact_names_stand_in_the_order_of_the_columns() -> None:
    rows = [standing("a", 0.5, exact={"AUC": 0.5, "Recall@3": 0.4}), standing("b", 0.4)]
    made = board("uniform", rows, ROSTER, "AUC")
    assert made.exact_names == ("Recall@3", "AUC")
    assert made.has_exact


def test_the_csv_quotes_what_has_a_comma() -> None:
    text = to_csv([board("uniform", [standing("b", 0.5, tie_rate=0.25)], ROSTER, "AUC")])
    rows = list(csv.DictReader(StringIO(text)))
    assert len(rows) == 2
    assert rows[0]["training_negatives"] == "4, uniform"
    assert (rows[0]["training_examples"], rows[0]["tie_rate"], rows[0]["measure"]) == (
        "7",
        "0.25",
        "Recall@3",
    )
