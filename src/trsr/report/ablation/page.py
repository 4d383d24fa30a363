"""The page of an ablation: panels, grids and words, put together."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from trsr.evaluation.intervals import Estimate
from trsr.report.ablation import plots
from trsr.report.ablation.content import AblationContent, Cell, Expectation, Grid, Panel, Variant
from trsr.report.ablation.headline import headline
from trsr.report.document import document
from trsr.report.figures import Figure
from trsr.report.svg import limits_of
from trsr.report.wording import system_name


@dataclass(frozen=True, slots=True)
class Row:
    """One variant in the table of all; its spread is the standard deviation over seeds."""

    panel: Panel
    variant: Variant
    spread: float | None
    is_best: bool


@dataclass(frozen=True, slots=True)
class GridRow:
    """One row of a grid; None where a combination was not measured."""

    label: str
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """Whether an order that was planted came out: ``holds``, ``open``, ``fails`` or ``absent``."""

    outcome: str
    words: str
    better: str
    worse: str
    reason: str
    difference: Estimate | None


@dataclass(frozen=True, slots=True)
class GridView:
    """A grid with its picture, its table and its checks."""

    grid: Grid
    figure: Figure
    rows: tuple[GridRow, ...]
    checks: tuple[Check, ...]


def render(content: AblationContent) -> str:
    """Make the ablation's HTML.

    Parameters
    ----------
    content
        What to show; every text in it is escaped.

    Returns
    -------
    str
        A whole HTML document that can be written as UTF-8; the same content gives the same bytes.
    """
    values = [variant.value for panel in content.panels for variant in panel.variants]
    seeds = [
        Estimate(mean, mean, mean)
        for panel in content.panels
        for variant in panel.variants
        for mean in variant.by_seed
    ]
    limits = limits_of([*values, *seeds])
    return document(
        "ablation/page.html.jinja",
        content=content,
        headline=headline(content),
        label=system_name,
        panels=tuple(_panel_figure(panel, limits, content.measure) for panel in content.panels),
        rows=tuple(row for panel in content.panels for row in _rows(panel)),
        grids=tuple(_grid_view(grid, content.measure) for grid in content.grids),
    )


def _panel_figure(panel: Panel, limits: tuple[float, float], measure: str) -> Figure:
    svg = plots.panel(panel, limits, measure) or ""
    return Figure(panel.name, panel.question, svg, "No value of this setting was measured.")


def _rows(panel: Panel) -> tuple[Row, ...]:
    best = max((variant.value.mean for variant in panel.variants), default=0.0)
    return tuple(
        Row(
            panel,
            variant,
            statistics.stdev(variant.by_seed) if len(variant.by_seed) > 1 else None,
            variant.value.mean == best,
        )
        for variant in panel.variants
    )


def _grid_view(grid: Grid, measure: str) -> GridView:
    cells = {(cell.row, cell.column): cell for cell in grid.cells}
    rows = tuple(
        GridRow(row, tuple(cells.get((row, column)) for column in grid.columns)) for row in grid.rows
    )
    caption = "Dots: means over users; lines: 95% intervals; rings: single training seeds."
    figure = Figure(grid.name, caption, plots.grid(grid, measure) or "", "No combination was measured.")
    return GridView(grid, figure, rows, tuple(_check(one) for one in grid.expectations))


def _check(expected: Expectation) -> Check:
    ends = expected.difference
    if ends is None:
        outcome, words = "absent", "Not measured"
    elif ends.low > 0:
        outcome, words = "holds", "Comes out"
    elif ends.high < 0:
        outcome, words = "fails", "The contrary came out"
    else:
        outcome, words = "open", "Can’t be told"
    better, worse = (f"({row}, {column})" for row, column in (expected.better, expected.worse))
    return Check(outcome, words, better, worse, expected.reason, ends)
