from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib
import pytest

from trsr.report.comparison import plots
from trsr.report.comparison.board import board
from trsr.report.comparison.results import ComparisonContent, Roster
from trsr.report.insights import Calibration

NAMES = ("by_system", "recall_curves", "by_slice", "by_cost", "reliability")


def drawings(content: ComparisonContent) -> dict[str, Callable[[], str | None]]:
    roster, table = Roster(content.systems), content.tables[0]
    boards = [board(t.sampler, t.standings, roster, content.measure) for t in content.tables]
    return {
        "by_system": lambda: plots.by_system(boards, roster, content.measure),
        "recall_curves": lambda: plots.recall_curves(table, roster, content.baseline),
        "by_slice": lambda: plots.by_slice(table.slices[0], boards[0], roster, (0.0, 1.0)),
        "by_cost": lambda: plots.by_cost(boards[0], roster),
        "reliability": lambda: plots.reliability(content.calibration[0], roster),
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_plot_is_wellformed_deterministic_and_takes_its_colours_from_the_page(
    comparison: ComparisonContent, name: str
) -> None:
    before = dict(matplotlib.rcParams)
    draw = drawings(comparison)[name]
    svg = draw()
    assert svg is not None
    assert svg == draw()
    root = ElementTree.fromstring(svg)
    assert root.find("title") is not None
    assert root.findall(".//text"), "text stays text"
    assert not re.search(r"#0101\d\d|https?:|DejaVu|xmlns|<style", svg)
    assert set(re.findall(r"(?:fill|stroke): (#\w+)", svg)) == set()
    assert len(svg) < 90_000
    assert dict(matplotlib.rcParams) == before


def test_every_system_is_named_once_for_both_kinds_of_negatives(comparison: ComparisonContent) -> None:
    svg = drawings(comparison)["by_system"]()
    assert svg is not None
    roster = Roster(comparison.systems)
    for system in comparison.systems:
        assert svg.count(f">{roster.label(system.name)}</text>") == 1
    assert "uniform negatives</text>" in svg
    assert "popularity-proportional negatives</text>" in svg


def test_curves_without_a_curve_take_the_measured_cut_offs(comparison: ComparisonContent) -> None:
    table = comparison.tables[0]
    bare = replace(table, standings=tuple(replace(row, recall_curve=()) for row in table.standings))
    svg = plots.recall_curves(bare, Roster(comparison.systems), comparison.baseline)
    assert svg is not None
    value = table.standings[0].metrics["Recall@5"].mean
    assert f"{value:.3f} at 5" in svg


def test_words_beside_points_do_not_cover_each_other(comparison: ComparisonContent) -> None:
    svg = drawings(comparison)["by_cost"]()
    assert svg is not None
    roster = Roster(comparison.systems)
    labels = {roster.label(system.name) for system in comparison.systems if system.seconds}
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


def test_nothing_to_draw_is_none(comparison: ComparisonContent) -> None:
    roster, table = Roster(comparison.systems), comparison.tables[0]
    empty = board("uniform", (), roster, "AUC")
    assert plots.by_system([empty], roster, "AUC") is None
    assert plots.recall_curves(replace(table, standings=()), roster, "") is None
    assert plots.by_slice(table.slices[0], empty, roster, (0.0, 1.0)) is None
    assert plots.by_cost(empty, roster) is None
    assert plots.reliability(Calibration("a", (), 0.0, 0.0), roster) is None
