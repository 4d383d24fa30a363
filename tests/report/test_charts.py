from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib
import pytest

from trsr.evaluation.statistics import Estimate
from trsr.report import charts
from trsr.report.charts import Point
from trsr.report.page import RunContent
from trsr.report.results import MetricTable, Results, System

VALUE = Estimate(0.5, 0.4, 0.6)
POINTS = (Point("0", VALUE, (0.45, 0.55)), Point("5", VALUE, (0.4, 0.6), is_default=True))


def drawings(results: Results, content: RunContent) -> dict[str, Callable[[], str | None]]:
    table, log = results.tables[0], content.log
    loss = {"training loss": (log.steps, "loss"), "validation loss": (log.epochs, "valid_loss")}
    return {
        "by_system": lambda: charts.by_system(results, results.measure),
        "recall_curves": lambda: charts.recall_curves(results, table),
        "by_slice": lambda: charts.by_slice(results, table, table.slices[0], (0.0, 1.0)),
        "by_cost": lambda: charts.by_cost(results),
        "reliability": lambda: charts.reliability(results, results.calibration[0]),
        "curves": lambda: charts.curves("losses", "Loss", "epoch", "loss", loss),
        "recall": lambda: charts.recall_by_epoch(log.epochs),
        "p_yes": lambda: charts.p_yes([0.2, 0.8], [0.1, 0.15, 0.4]),
        "ranks": lambda: charts.target_ranks([1.0, 1.5, 7.0], 21),
        "lengths": lambda: charts.history_lengths([10, 11, 11, 25]),
        "settings": lambda: charts.settings("s", "items", "AUC", {"": POINTS}, (0.0, 1.0)),
        "grid": lambda: charts.settings("g", "", "AUC", {"none": POINTS, "recurrent": POINTS}),
    }


NAMES = (
    *("by_system", "recall_curves", "by_slice", "by_cost", "reliability", "curves", "recall", "p_yes"),
    *("ranks", "lengths", "settings", "grid"),
)


@pytest.mark.parametrize("name", NAMES)
def test_a_chart_is_wellformed_deterministic_and_takes_its_colours_from_the_page(
    comparison: Results, content: RunContent, name: str
) -> None:
    before = dict(matplotlib.rcParams)
    draw = drawings(comparison, content)[name]
    svg = draw()
    assert svg is not None
    assert svg == draw()
    root = ElementTree.fromstring(svg)
    assert root.find("title") is not None
    assert root.find("desc") is not None
    assert root.findall(".//text"), "text stays text"
    assert not re.search(r"#0101\d\d|https?:|DejaVu|xmlns|<style", svg)
    assert set(re.findall(r"(?:fill|stroke): (#\w+)", svg)) == set()
    assert len(svg) < 90_000
    own_ids = re.findall(r'\bid="([^"]+)"', svg)
    assert len(own_ids) == len(set(own_ids))
    assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg)) <= set(own_ids)
    assert dict(matplotlib.rcParams) == before


def test_every_system_is_named_once_for_both_kinds_of_negatives(comparison: Results) -> None:
    svg = charts.by_system(comparison, comparison.measure)
    assert svg is not None
    for system in comparison.systems:
        assert svg.count(f">{comparison.label(system.name)}</text>") == 1
    assert "uniform negatives</text>" in svg
    assert "popularity-proportional negatives</text>" in svg


def test_curves_take_the_measured_cut_offs(comparison: Results) -> None:
    table = comparison.tables[0]
    svg = charts.recall_curves(comparison, table)
    assert svg is not None
    assert f"{table.rows[0].metrics['Recall@5'].mean:.3f} at 5" in svg


def test_a_hostile_system_name_stays_text(content: RunContent) -> None:
    name = "<script>$x^2$&"
    results = content.results
    rows = tuple(replace(row, system=name) for row in results.tables[0].rows[:1])
    hostile = replace(results, systems=(System(name),), tables=(replace(results.tables[0], rows=rows),))
    svg = charts.by_system(hostile, "Recall@3")
    assert svg is not None
    assert "<script" not in svg
    assert "&lt;script&gt;$x^2$&amp;</text>" in svg
    ElementTree.fromstring(svg)


def test_words_beside_points_do_not_cover_each_other(comparison: Results) -> None:
    svg = charts.by_cost(comparison)
    assert svg is not None
    labels = {comparison.label(system.name) for system in comparison.systems if system.seconds}
    boxes = []
    for style, place, text in re.findall(r'<text style="([^"]*)"([^>]*)>([^<]*)</text>', svg):
        if text not in labels:
            continue
        x, y = (float(value) for value in re.findall(r'[xy]="([\d.]+)"', place)[:2])
        width = 4.2 * len(text)
        left = x - width if "text-anchor: end" in style else x
        boxes.append((left, y - 7, left + width, y))
    assert len(boxes) == len(labels)
    for place, one in enumerate(boxes):
        for other in boxes[place + 1 :]:
            apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
            assert apart, (one, other)


def test_medians_are_told_to_those_who_cannot_see_them() -> None:
    svg = charts.p_yes([0.2, 0.6, 0.7], [0.1, 0.3])
    assert svg is not None
    assert "Median p(yes): targets 0.600, negatives 0.200." in svg


def test_equal_scores_and_equal_lengths_can_be_drawn() -> None:
    assert charts.p_yes([0.5], [0.5, 0.5]) is not None
    assert charts.p_yes([1.0], [1.0]) is not None
    assert charts.history_lengths([10]) is not None
    assert charts.history_lengths([1, 4000]) is not None
    assert charts.target_ranks([1.0], 2) is not None


def test_the_default_and_every_value_are_told_to_those_who_cannot_see_them() -> None:
    svg = charts.settings("s", "items", "AUC", {"": POINTS}, (0.0, 1.0), joined=False)
    assert svg is not None
    assert "0 0.500; 5 (default) 0.500" in svg


def test_nothing_to_draw_is_none(comparison: Results, bare: RunContent) -> None:
    empty = MetricTable("uniform", 21, ())
    nothing = replace(comparison, tables=(empty,))
    assert charts.by_system(nothing, "AUC") is None
    assert charts.recall_curves(nothing, empty) is None
    assert charts.by_slice(nothing, empty, comparison.tables[0].slices[0], (0.0, 1.0)) is None
    assert charts.by_cost(nothing) is None
    assert charts.by_system(bare.results, "Precision@3") is None
    one = comparison.calibration[0]
    assert charts.reliability(comparison, replace(one, measured=replace(one.measured, equal_mass=()))) is None
    assert charts.curves("a", "b", "step", "loss", {"loss": ((), "loss")}) is None
    assert charts.recall_by_epoch(({"epoch": 1, "valid_loss": 0.5, "valid_recall_sum": None},)) is None
    assert charts.p_yes([], []) is None
    assert charts.target_ranks([], 0) is None
    assert charts.history_lengths([]) is None
    assert charts.settings("s", "items", "AUC", {"": ()}) is None


def test_a_short_log_is_drawn_too() -> None:
    series = {"training loss": (({"step": 1, "epoch": 0.5, "loss": 0.7},), "loss")}
    svg = charts.curves("losses", "Loss", "epoch", "loss", series)
    assert svg is not None
    assert "training loss 0.700 at epoch 0.5" in svg
