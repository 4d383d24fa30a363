"""The page of an ablation: records, sentences, charts.

Nothing here reads a file or a clock. A panel is one dimension of the settings;
all of its variants share everything else with the default setting.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from matplotlib import rc_context
from matplotlib.axes import Axes

from trsr.evaluation.statistics import Estimate
from trsr.report.charts import INK, MARK, MUTED, OWN, STYLE, figure_id, finish, limits_of, new_axes, to_svg
from trsr.report.comparison.board import LEVEL
from trsr.report.comparison.results import Provenance
from trsr.report.document import document
from trsr.report.figures import Figure
from trsr.report.wording import (
    counted,
    listed,
    p_value,
    sampler_name,
    shortened,
    signed,
    split_name,
    system_name,
)


@dataclass(frozen=True, slots=True)
class Variant:
    """One value of a dimension, as measured.

    Parameters
    ----------
    label
        The value in words, such as ``recurrent`` or ``5``.
    value
        The primary measure: mean over users (each user first averaged over seeds), 95% interval over users.
    by_seed
        The mean over users at each seed, in the order of `Provenance.seeds`.
    is_default
        One variant a panel at most.
    p
        Two-sided p of the paired test against the default variant, Holm-adjusted within the panel;
        None for the default itself, and where nothing was tested.
    seconds
        Mean over seeds of the training seconds; None when unknown.
    note
        What else has to be known, such as ``stopped at 3 of 5 epochs``; may be empty.
    """

    label: str
    value: Estimate
    by_seed: tuple[float, ...] = ()
    is_default: bool = False
    p: float | None = None
    users: int = 0
    seconds: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One dimension of the settings; its variants are in the order in which they are drawn.

    `name` is short and unique, such as ``recent items``; `setting` the configuration's field, such as
    ``prompt.recent_items``; `question` one sentence. Labels of a numeric one are numbers, so that their dots
    are joined to a curve.
    """

    name: str
    setting: str
    question: str
    variants: tuple[Variant, ...]
    numeric: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination in a grid of two dimensions; `row` and `column` are labels of the grid's."""

    row: str
    column: str
    value: Estimate
    by_seed: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Expectation:
    """An order that must hold, because the data was planted so that it does.

    `better` and `worse` are combinations, as (row, column). `difference` is paired, `better` minus `worse`,
    with its 95% interval; None when it was not measured.
    """

    better: tuple[str, str]
    worse: tuple[str, str]
    reason: str
    difference: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Grid:
    """Two dimensions crossed, on data whose answer is known; cells are the combinations that were measured.

    `data` says in plain words what was planted; the page says of each expectation whether it holds.
    """

    name: str
    data: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[Cell, ...]
    expectations: tuple[Expectation, ...] = ()


@dataclass(frozen=True, slots=True)
class AblationContent:
    """Everything that the page of an ablation shows.

    `measure` is the primary one, such as ``NDCG@10``; `candidates` counts those of a user, the target among
    them. Figures are on the users of `split`: ``test`` or ``valid``.
    """

    name: str
    measure: str
    sampler: str
    candidates: int
    split: str
    panels: tuple[Panel, ...]
    provenance: Provenance
    grids: tuple[Grid, ...] = ()


@dataclass(frozen=True, slots=True)
class Headline:
    """A title, what was measured, and what it rests on."""

    title: str
    task: str
    sentences: tuple[str, ...]


def default_of(panel: Panel) -> Variant | None:
    """Give the default variant of a panel; None when it was not measured."""
    return next((variant for variant in panel.variants if variant.is_default), None)


def headline(content: AblationContent) -> Headline:
    """Say which settings the paired tests tell apart from the default."""
    better = [_change(panel, one) for panel in content.panels for one in _told(panel, above=True)]
    worse = [_change(panel, one) for panel in content.panels for one in _told(panel, above=False)]
    untold = [panel.name for panel in content.panels if _is_tested(panel) and not _is_told(panel)]
    untested = [panel.name for panel in content.panels if not _is_tested(panel)]
    sentences = []
    if better:
        sentences.append(f"Better than the default: {listed(better)}.")
    if worse:
        sentences.append(f"Worse than the default: {listed(worse)}.")
    if untold:
        sentences.append(
            f"No value can be told apart from the default in: {listed(untold)}. This does not show that the "
            "values are equal: the intervals say how large a difference could have been missed."
        )
    if untested:
        sentences.append(f"Not tested: {listed(untested)}.")
    users = content.provenance.users.get(content.split, 0)
    who = split_name(content.split).lower()
    changed = ", with one setting changed at a time" if content.panels else ""
    task = (
        f"{content.measure} of {counted(users, who.removesuffix('s'))}, {content.candidates} candidates "
        f"each, {sampler_name(content.sampler)}{changed}."
    )
    return Headline(_title(content), task, tuple(sentences))


def _title(content: AblationContent) -> str:
    if not content.panels:
        return _grid_title(content)
    told = [panel.name for panel in content.panels if _is_told(panel)]
    if not told:
        return "No changed setting can be told apart from the default"
    total = counted(len(content.panels), "setting")
    return f"Of {total}, {len(told)} clearly matter{'s' if len(told) == 1 else ''}: {listed(told)}"


def _grid_title(content: AblationContent) -> str:
    differences = [one.difference for grid in content.grids for one in grid.expectations]
    if not content.grids:
        return "No setting was changed"
    if not differences:
        return "Two settings were crossed"
    came_out = sum(one is not None and one.low > 0 for one in differences)
    if came_out == len(differences):
        return "What was planted comes out in full"
    return f"Of {counted(len(differences), 'planted order')}, {came_out} came out"


def _is_tested(panel: Panel) -> bool:
    return any(variant.p is not None for variant in panel.variants)


def _is_told(panel: Panel) -> bool:
    return any(variant.p is not None and variant.p < LEVEL for variant in panel.variants)


def _told(panel: Panel, above: bool) -> list[Variant]:
    default = default_of(panel)
    if default is None:
        return []
    return [
        variant
        for variant in panel.variants
        if variant.p is not None and variant.p < LEVEL and (variant.value.mean > default.value.mean) == above
    ]


def _change(panel: Panel, variant: Variant) -> str:
    default = default_of(panel)
    assert default is not None
    difference = signed(variant.value.mean - default.value.mean)
    return f"{panel.name} “{variant.label}” ({difference}, p {p_value(variant.p)})"


_LABEL_CHARS: Final = 16
_TURNED_FROM: Final = 30
_DASHES: Final = ("-", (0, (5, 1.5)), (0, (2, 1)), (0, (5, 1, 1, 1)))
_SHADES: Final = (OWN, MARK, INK, MUTED)


@rc_context(STYLE)
def panel_chart(found: Panel, limits: tuple[float, float], measure: str) -> str | None:
    """One dimension: a dot with its interval per value, rings for single seeds, the default marked."""
    if not found.variants:
        return None
    figure, axes = new_axes(2.7)
    default = default_of(found)
    if default is not None:
        axes.axhspan(default.value.low, default.value.high, color=MARK, alpha=0.09, linewidth=0)
    if found.numeric:
        means = [variant.value.mean for variant in found.variants]
        axes.plot(range(len(means)), means, color=OWN, linewidth=1, alpha=0.6)
    for place, variant in enumerate(found.variants):
        colour, form = (MARK, "s") if variant.is_default else (OWN, "o")
        _interval(axes, place, variant.value, variant.by_seed, colour, form)
    labels = [shortened(variant.label, _LABEL_CHARS) for variant in found.variants]
    axes.set_xticks(range(len(labels)), labels)
    if sum(map(len, labels)) > _TURNED_FROM:
        axes.tick_params(axis="x", labelrotation=25)
    axes.set_xlim(-0.6, len(labels) - 0.4)
    axes.set_ylim(*limits)
    finish(axes, found.name, measure)
    words = "; ".join(
        f"{variant.label}{' (default)' if variant.is_default else ''} {variant.value.mean:.3f}"
        for variant in found.variants
    )
    return to_svg(figure, figure_id("panel", found.name), f"{measure} by {found.name}", words)


@rc_context(STYLE)
def grid_chart(found: Grid, measure: str) -> str | None:
    """Two dimensions crossed: a curve per row over the columns."""
    if not found.cells:
        return None
    figure, axes = new_axes(3.0)
    cells = {(cell.row, cell.column): cell for cell in found.cells}
    for index, row in enumerate(found.rows):
        shown = [
            (place, cells[row, column])
            for place, column in enumerate(found.columns)
            if (row, column) in cells
        ]
        colour = _SHADES[index % len(_SHADES)]
        shift = 0.07 * (index - (len(found.rows) - 1) / 2)
        axes.plot(
            [place + shift for place, _ in shown],
            [cell.value.mean for _, cell in shown],
            color=colour,
            linewidth=1.4,
            linestyle=_DASHES[index % len(_DASHES)],
            label=shortened(row),
        )
        for place, cell in shown:
            _interval(axes, place + shift, cell.value, cell.by_seed, colour, "o", 0.03)
    axes.set_xticks(range(len(found.columns)), [shortened(name, _LABEL_CHARS) for name in found.columns])
    finish(axes, "", measure)
    axes.legend(loc="best", handlelength=2.4, fontsize=8)
    words = "; ".join(f"{cell.row}, {cell.column}: {cell.value.mean:.3f}" for cell in found.cells)
    return to_svg(figure, figure_id("grid", found.name), found.name, words)


def _interval(
    axes: Axes,
    place: float,
    value: Estimate,
    by_seed: Sequence[float],
    colour: str,
    form: str,
    aside: float = 0.16,
) -> None:
    axes.plot([place, place], [value.low, value.high], color=colour, linewidth=1.6)
    axes.plot([place], [value.mean], form, color=colour, markersize=5)
    if len(by_seed) > 1:
        axes.plot(
            [place + aside] * len(by_seed), by_seed, "o", color=colour, markersize=3.2, fillstyle="none",
            markeredgewidth=0.8,
        )  # fmt: skip


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
    """Make the ablation's page as a whole HTML document, to be written as UTF-8.

    Every text in the content is escaped; the same content gives the same bytes.
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
    svg = panel_chart(panel, limits, measure) or ""
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
    figure = Figure(grid.name, caption, grid_chart(grid, measure) or "", "No combination was measured.")
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
