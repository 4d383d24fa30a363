"""The charts of a comparison's page, with labels that don't cover each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from trsr.evaluation.statistics import Estimate
from trsr.report.charts import (
    INK,
    LINE,
    MARK,
    MUTED,
    OWN,
    STYLE,
    WIDE_INCHES,
    figure_id,
    finish,
    limits_of,
    new_axes,
    new_panels,
    to_svg,
)
from trsr.report.comparison.board import Board
from trsr.report.comparison.results import Kind, Roster, Slice, Standing, Table
from trsr.report.insights import Calibration
from trsr.report.measures import cutoff, family
from trsr.report.wording import duration, sampler_name, shortened

_SIGN_POINTS: Final = 4.9
_LINE_POINTS: Final = 10.5
_GAP_POINTS: Final = 7.0
_FONT_SIZE: Final = 8
_STEPS: Final = 24

Box = tuple[float, float, float, float]


def spread_out(axes: Axes, points: Sequence[tuple[float, float, str, str]]) -> None:
    """Name every point, at its right or left, shifted up or down to the nearest free place.

    Points are place across and up in the units of the axes, label, colour. The axes' scale and limits must be
    final.
    """
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # Words must not move the axes under which they were placed.
    per_point = figure.dpi / 72
    centres = [axes.transData.transform((x, y)) / per_point for x, y, _, _ in points]
    frame = axes.get_window_extent()
    taken: list[Box] = [(cx - 3, cy - 3, cx + 3, cy + 3) for cx, cy in centres]
    for (x, y, label, colour), (cx, cy) in sorted(zip(points, centres, strict=True), key=lambda p: -p[1][1]):
        across, up = _place(cx, cy, label, taken, frame.x1 / per_point)
        taken.append(_box(cx + across, cy + up, label, across < 0))
        axes.annotate(
            label,
            (x, y),
            (across, up),
            textcoords="offset points",
            ha="right" if across < 0 else "left",
            va="center",
            fontsize=_FONT_SIZE,
            color=colour,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 1, "shrinkB": 3}
            if abs(up) > _LINE_POINTS
            else None,
        )


def _place(cx: float, cy: float, label: str, taken: Sequence[Box], right: float) -> tuple[float, float]:
    """Give the smallest shift that is free; right before left, near before far."""
    for step in range(_STEPS):
        for up in (step * _LINE_POINTS / 2, -step * _LINE_POINTS / 2):
            for across in (_GAP_POINTS, -_GAP_POINTS):
                box = _box(cx + across, cy + up, label, across < 0)
                if box[2] <= right and not any(_meet(box, other) for other in taken):
                    return across, up
    return _GAP_POINTS, 0.0


def _box(x: float, y: float, label: str, is_left: bool) -> Box:
    width = _SIGN_POINTS * len(label)
    left = x - width if is_left else x
    return left, y - _LINE_POINTS / 2, left + width, y + _LINE_POINTS / 2


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


COLOURS: Final = {Kind.BASELINE: MUTED, Kind.LANGUAGE_MODEL: OWN, Kind.FUSED: MARK}
_FORMS: Final = {Kind.BASELINE: "D", Kind.LANGUAGE_MODEL: "o", Kind.FUSED: "s"}
_SHORTEST_S: Final = 1e-2


@rc_context(STYLE)
def by_system(boards: Sequence[Board], roster: Roster, measure: str) -> str | None:
    """One measure of every system, a panel a table, ordered by the first table."""
    shown = [made for made in boards if any(measure in line.cells for line in made.lines)]
    if not shown:
        return None
    ranked = sorted(
        (line for line in shown[0].lines if measure in line.cells),
        key=lambda line: -line.cells[measure].value.mean,
    )
    order = [line.system.name for line in ranked]
    order += [
        line.system.name
        for made in shown[1:]
        for line in made.lines
        if line.system.name not in order and measure in line.cells
    ]
    order = list(dict.fromkeys(order))
    figure, panels = new_panels(len(shown), 0.75 + 0.24 * len(order))
    ends = limits_of(
        [line.cells[measure].value for made in shown for line in made.lines if measure in line.cells]
    )
    for axes, made in zip(panels, shown, strict=True):
        axes.set_xlim(*ends)
        values = {line.system.name: line.cells[measure].value for line in made.lines if measure in line.cells}
        _dots(axes, order, values, roster)
        axes.set_title(sampler_name(made.sampler), fontsize=9, color=MUTED, loc="left")
        axes.set_xlabel(measure)
    _name_rows(panels[0], order, roster)
    words = "; ".join(
        f"{line.label} {line.cells[measure].value.mean:.3f} with {sampler_name(made.sampler)}"
        for made in shown
        for line in made.lines
        if measure in line.cells
    )
    return to_svg(figure, figure_id("by-system", measure), f"{measure} of every system, 95% intervals", words)


@rc_context(STYLE)
def recall_curves(table: Table, roster: Roster, baseline: str) -> str | None:
    """Recall by cut-off; language models, the fused ranker and the best baseline named, the others thin."""
    curves = {row.system: _curve_of(row) for row in table.standings}
    curves = {name: curve for name, curve in curves.items() if len(curve) > 1}
    if not curves:
        return None
    figure, axes = new_axes(3.6, WIDE_INCHES / 2)
    named = [name for name in curves if name == baseline or roster.kind(name) is not Kind.BASELINE]
    for name in sorted(curves, key=lambda name: name in named):
        curve = curves[name]
        ks, means = list(curve), [value.mean for value in curve.values()]
        if name not in named:
            axes.plot(ks, means, color=MUTED, linewidth=0.8, alpha=0.45)
            continue
        colour = INK if name == baseline else COLOURS[roster.kind(name)]
        dashes = {Kind.BASELINE: (0, (4, 2)), Kind.FUSED: "-"}.get(
            roster.kind(name), _DASHES[named.index(name) % len(_DASHES)]
        )
        lows, highs = [v.low for v in curve.values()], [v.high for v in curve.values()]
        axes.fill_between(ks, lows, highs, color=colour, alpha=0.12, linewidth=0)
        axes.plot(
            ks, means, color=colour, linewidth=1.7, linestyle=dashes, label=shortened(roster.label(name))
        )
    longest = max(k for curve in curves.values() for k in curve)
    if table.sampler != "catalogue":
        ends = [1, min(longest, table.candidates)]
        axes.plot(ends, [k / table.candidates for k in ends], ":", color=INK, linewidth=1, label="chance")
    if len(named) < len(curves):
        axes.plot([], [], color=MUTED, linewidth=0.8, alpha=0.6, label="other systems")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    finish(axes, "first k places", "Recall@k")
    if axes.legend_ is not None:
        axes.legend_.remove()
    figure.legend(loc="outside lower center", ncols=2, handlelength=2.4, fontsize=8)
    words = "; ".join(
        f"{roster.label(name)}: {', '.join(f'{v.mean:.3f} at {k}' for k, v in curve.items())}"
        for name, curve in curves.items()
    )
    title = f"Recall by cut-off, {sampler_name(table.sampler)}"
    return to_svg(figure, figure_id("recall", table.sampler), title, words)


_DASHES: Final = ("-", (0, (6, 1.5)), (0, (3, 1, 1, 1)), (0, (1, 1)))


@rc_context(STYLE)
def by_slice(found: Slice, made: Board, roster: Roster, limits: tuple[float, float]) -> str | None:
    """One group of users: the primary measure of every system, on a scale that all groups share."""
    names = [line.system.name for line in made.lines if line.system.name in found.values]
    if not names:
        return None
    figure, axes = new_axes(0.55 + 0.2 * len(names))
    _dots(axes, names, found.values, roster)
    _name_rows(axes, names, roster)
    axes.set_xlim(*limits)
    axes.set_xlabel(made.measure)
    words = "; ".join(f"{roster.label(name)} {found.values[name].mean:.3f}" for name in names)
    name = figure_id("slice", f"{made.sampler}-{found.name}")
    return to_svg(figure, name, f"{made.measure}: {found.name}", words)


@rc_context(STYLE)
def by_cost(made: Board, roster: Roster) -> str | None:
    """Draw the primary measure against the seconds until a system can score."""
    timed = [line for line in made.lines if made.measure in line.cells and (line.system.seconds or 0) > 0]
    if len(timed) < 2:
        return None
    figure, axes = new_axes(4.0, WIDE_INCHES)
    axes.set_xscale("log")
    points = []
    for line in timed:
        value, seconds = line.cells[made.measure].value, max(float(line.system.seconds or 0), _SHORTEST_S)
        kind = line.system.kind
        axes.plot([seconds, seconds], [value.low, value.high], color=COLOURS[kind], linewidth=1.2, alpha=0.6)
        axes.plot([seconds], [value.mean], _FORMS[kind], color=COLOURS[kind], markersize=5)
        points.append((seconds, value.mean, shortened(line.label), COLOURS[kind]))
    axes.margins(x=0.14, y=0.08)
    axes.xaxis.set_major_locator(LogLocator(10))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: _span(seconds)))
    finish(axes, "time until the system can score (each step is ten times as long)", made.measure)
    spread_out(axes, points)
    words = "; ".join(f"{label} {mean:.3f} after {duration(seconds)}" for seconds, mean, label, _ in points)
    return to_svg(figure, figure_id("cost", made.sampler), f"{made.measure} against training time", words)


@rc_context(STYLE)
def reliability(found: Calibration, roster: Roster) -> str | None:
    """How often yes is true among candidates by the probability that was said of them."""
    if not found.bins:
        return None
    figure, axes = new_axes(3.3)
    colour = COLOURS[roster.kind(found.system)]
    top = max(max(one.predicted, one.observed) for one in found.bins)
    top = min(1.0, max(0.1, top * 1.08))
    axes.plot([0, top], [0, top], color=LINE, linewidth=1.2, linestyle=(0, (4, 2)), label="perfect")
    most = max(one.count for one in found.bins)
    x, y = [one.predicted for one in found.bins], [one.observed for one in found.bins]
    axes.plot(x, y, color=colour, linewidth=1.2, alpha=0.7)
    axes.scatter(
        x, y, [12 + 90 * one.count / most for one in found.bins], color=colour, alpha=0.85, linewidths=0
    )
    axes.set_xlim(0, top)
    axes.set_ylim(0, max(top, 0.1))
    finish(axes, "probability said", "share that was true")
    axes.grid(axis="both")
    words = "; ".join(f"said {b.predicted:.3f}, true {b.observed:.3f} of {b.count}" for b in found.bins)
    return to_svg(
        figure, figure_id("reliability", found.system), f"Reliability of {roster.label(found.system)}", words
    )


def _dots(axes: Axes, order: Sequence[str], values: Mapping[str, Estimate], roster: Roster) -> None:
    for place, name in enumerate(order):
        if name in values:
            value, kind = values[name], roster.kind(name)
            axes.plot([value.low, value.high], [place, place], color=COLOURS[kind], linewidth=1.6)
            axes.plot([value.mean], [place], _FORMS[kind], color=COLOURS[kind], markersize=4.6)
    axes.grid(axis="x")
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_visible(False)


def _name_rows(axes: Axes, order: Sequence[str], roster: Roster) -> None:
    axes.set_yticks(range(len(order)), [shortened(roster.label(name)) for name in order])
    axes.set_ylim(len(order) - 0.4, -0.6)
    for label, name in zip(axes.get_yticklabels(), order, strict=True):
        label.set_color(COLOURS[roster.kind(name)])


def _curve_of(row: Standing) -> dict[int, Estimate]:
    if row.recall_curve:
        return dict(enumerate(row.recall_curve, start=1))
    recalls = {cutoff(name): value for name, value in row.metrics.items() if family(name) == "Recall"}
    return dict(sorted(recalls.items()))


def _span(seconds: float) -> str:
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds:g} s"
