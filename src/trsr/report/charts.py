"""The charts of all pages, as small, deterministic SVG that takes its colours from the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from trsr.evaluation.statistics import Estimate
from trsr.progress import clock
from trsr.report.results import Kind, MetricTable, Results, Slice, SystemCalibration
from trsr.report.svg import INK, LINE, MARK, MUTED, OWN, STYLE, figure_id, to_svg
from trsr.report.words import sampler_name, shortened

_WIDTH_INCHES: Final = 3.7
_WIDE_INCHES: Final = 7.6
_COLOURS: Final = {Kind.BASELINE: MUTED, Kind.LANGUAGE_MODEL: OWN, Kind.FUSED: MARK}
_FORMS: Final = {Kind.BASELINE: "D", Kind.LANGUAGE_MODEL: "o", Kind.FUSED: "s"}
_DASHES: Final = ("-", (0, (6, 1.5)), (0, (3, 1, 1, 1)), (0, (1, 1)))
_SHADES: Final = (OWN, MARK, INK, MUTED)
_DASHED: Final = (0, (3, 2))


def new_axes(
    height_inches: float, width_inches: float = _WIDTH_INCHES, columns: int = 1
) -> tuple[Figure, Axes]:
    """Give an empty figure and its first pair of axes, of `columns` that share their vertical one."""
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    return figure, figure.subplots(1, columns, sharey=True, squeeze=False)[0][0]


def finish(axes: Axes, x: str, y: str, legend: bool = True) -> None:
    """Name both axes, draw the grid, and a legend when there is more than one curve to tell apart."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(axis="y")
    axes.tick_params(length=0, pad=5)
    axes.spines["left"].set_visible(False)
    if legend and len(axes.get_legend_handles_labels()[1]) > 1:
        axes.legend(loc="best", handlelength=1.4)


def limits_of(values: Sequence[Estimate]) -> tuple[float, float]:
    """Give the ends of a scale on which all intervals have room; 0 to 1 when there is none."""
    values = [value for value in values if not math.isnan(value.low + value.high)]
    if not values:
        return 0.0, 1.0
    low, high = min(value.low for value in values), max(value.high for value in values)
    margin = 0.04 * (high - low) or 0.01
    return low - margin, high + margin


def _interval(
    axes: Axes,
    place: float,
    value: Estimate,
    colour: str,
    form: str,
    *,
    upright: bool = False,
    width: float = 1.6,
) -> None:
    """Draw a mean as a sign and its 95% interval as a line; a place is a row, when upright a column."""
    ends, places = [value.low, value.high], [place, place]
    axes.plot(*((places, ends) if upright else (ends, places)), color=colour, linewidth=width)
    axes.plot(*((place, value.mean) if upright else (value.mean, place)), form, color=colour, markersize=4.8)


def _rows(
    axes: Axes, order: Sequence[str], values: Mapping[str, Estimate], results: Results, named: bool = True
) -> None:
    """Draw one named row a system, each with its interval."""
    for place, name in enumerate(order):
        if name in values:
            kind = results.kind(name)
            _interval(axes, place, values[name], _COLOURS[kind], _FORMS[kind])
    if named:
        axes.set_yticks(range(len(order)), [shortened(results.label(name)) for name in order])
        axes.set_ylim(len(order) - 0.4, -0.6)
        for label, name in zip(axes.get_yticklabels(), order, strict=True):
            label.set_color(_COLOURS[results.kind(name)])
    axes.grid(axis="x")
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)


@rc_context(STYLE)
def by_system(results: Results, metric: str) -> str | None:
    """One metric of every system, a panel a table, ordered by the first table."""
    measured = [
        (table, {row.system: row.metrics[metric] for row in table.ranked(metric) if metric in row.metrics})
        for table in results.main_tables
    ]
    shown = [(table, values) for table, values in measured if values]
    if not shown:
        return None
    order = list(dict.fromkeys(name for _, values in shown for name in values))
    figure, _ = new_axes(0.75 + 0.24 * len(order), _WIDE_INCHES, len(shown))
    ends = limits_of([value for _, values in shown for value in values.values()])
    for axes, (table, values) in zip(figure.axes, shown, strict=True):
        axes.set_xlim(*ends)
        _rows(axes, order, values, results, named=axes is figure.axes[0])
        axes.set_title(sampler_name(table.sampler), fontsize=9, color=MUTED, loc="left")
        axes.set_xlabel(metric)
    words = "; ".join(
        f"{results.label(name)} {value.mean:.3f} with {sampler_name(table.sampler)}"
        for table, values in shown
        for name, value in values.items()
    )
    return to_svg(figure, figure_id("by-system", metric), f"{metric} of every system, 95% intervals", words)


@rc_context(STYLE)
def by_slice(results: Results, table: MetricTable, group: Slice, limits: tuple[float, float]) -> str | None:
    """One group of users: the primary measure of every system, on a scale that all groups share."""
    names = [row.system for row in table.ranked(results.measure) if row.system in group.values]
    if not names:
        return None
    figure, axes = new_axes(0.55 + 0.2 * len(names))
    _rows(axes, names, group.values, results)
    axes.set_xlim(*limits)
    axes.set_xlabel(results.measure)
    words = "; ".join(f"{results.label(name)} {group.values[name].mean:.3f}" for name in names)
    name = figure_id("slice", f"{table.sampler}-{group.name}")
    return to_svg(figure, name, f"{results.measure}: {group.name}", words)


@rc_context(STYLE)
def recall_curves(results: Results, table: MetricTable) -> str | None:
    """Recall by cut-off; language models, the fused ranker and the best baseline named, the others thin."""
    curves = {row.system: row.recalls for row in table.rows if len(row.recalls) > 1}
    if not curves:
        return None
    figure, axes = new_axes(3.6, _WIDE_INCHES / 2)
    named = [n for n in curves if n == results.baseline or results.kind(n) is not Kind.BASELINE]
    models = [name for name in named if results.kind(name) is Kind.LANGUAGE_MODEL]
    for name in sorted(curves, key=lambda name: name in named):
        ks, values = list(curves[name]), list(curves[name].values())
        means = [value.mean for value in values]
        if name not in named:
            axes.plot(ks, means, color=MUTED, linewidth=0.8, alpha=0.45)
            continue
        kind = results.kind(name)
        colour = INK if name == results.baseline else _COLOURS[kind]
        dashes: Any = _DASHED if kind is Kind.BASELINE else "-"
        if kind is Kind.LANGUAGE_MODEL:
            dashes = _DASHES[models.index(name) % len(_DASHES)]
        axes.fill_between(
            ks, [v.low for v in values], [v.high for v in values], color=colour, alpha=0.12, linewidth=0
        )
        label = shortened(results.label(name))
        axes.plot(ks, means, color=colour, linewidth=1.7, linestyle=dashes, label=label)
    if not table.sampler.endswith("catalogue"):
        ends = [1, min(max(k for curve in curves.values() for k in curve), table.candidates)]
        axes.plot(ends, [k / table.candidates for k in ends], ":", color=INK, linewidth=1, label="chance")
    if len(named) < len(curves):
        axes.plot([], [], color=MUTED, linewidth=0.8, alpha=0.6, label="other systems")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    finish(axes, "first k places", "Recall@k", legend=False)
    figure.legend(loc="outside lower center", ncols=2, handlelength=2.4, fontsize=8)
    words = "; ".join(
        f"{results.label(name)}: {', '.join(f'{v.mean:.3f} at {k}' for k, v in curve.items())}"
        for name, curve in curves.items()
    )
    title = f"Recall by cut-off, {sampler_name(table.sampler)}"
    return to_svg(figure, figure_id("recall", table.name), title, words)


@rc_context(STYLE)
def by_cost(results: Results) -> str | None:
    """Draw the primary measure against the seconds until a system can score, by the first table."""
    measure, table = results.measure, results.tables[0] if results.tables else None
    rows = [row for row in table.ranked(measure) if measure in row.metrics] if table else []
    timed = [(row, seconds) for row in rows if (seconds := results.system(row.system).seconds or 0) > 0]
    if len(timed) < 2 or table is None:
        return None
    figure, axes = new_axes(4.0, _WIDE_INCHES)
    axes.set_xscale("log")
    points = []
    for row, measured in timed:
        value, seconds, kind = row.metrics[measure], max(measured, _SHORTEST_S), results.kind(row.system)
        _interval(axes, seconds, value, _COLOURS[kind], _FORMS[kind], upright=True, width=1.2)
        points.append((seconds, value.mean, shortened(results.label(row.system)), _COLOURS[kind]))
    axes.margins(x=0.14, y=0.08)
    axes.xaxis.set_major_locator(LogLocator(10))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: clock(seconds)))
    finish(axes, "time until the system can score (each step is ten times as long)", measure)
    _name_points(axes, points)
    words = "; ".join(f"{label} {mean:.3f} after {clock(seconds)}" for seconds, mean, label, _ in points)
    return to_svg(figure, figure_id("cost", table.sampler), f"{measure} against training time", words)


_SHORTEST_S: Final = 1e-2
_SIGN_POINTS: Final = 4.9
_LINE_POINTS: Final = 10.5
_GAP_POINTS: Final = 7.0


def _name_points(axes: Axes, points: Sequence[tuple[float, float, str, str]]) -> None:
    """Name every point, at its right or left, shifted up or down to the nearest free place.

    Points are place across and up in the units of the axes, label, colour. The axes' scale and limits must be
    final.
    """
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # Words must not move the axes under which they were placed.
    per_point = figure.dpi / 72
    right = axes.get_window_extent().x1 / per_point
    centres = [axes.transData.transform((x, y)) / per_point for x, y, _, _ in points]
    boxes = [(cx - 3, cy - 3, cx + 3, cy + 3) for cx, cy in centres]
    shifts = [
        (across, up)
        for step in range(24)
        for up in (step * _LINE_POINTS / 2, -step * _LINE_POINTS / 2)
        for across in (_GAP_POINTS, -_GAP_POINTS)
    ]
    for (x, y, label, colour), (cx, cy) in sorted(zip(points, centres, strict=True), key=lambda p: -p[1][1]):
        wide = _SIGN_POINTS * len(label)
        for across, up in shifts:
            left, low = cx + across - (wide if across < 0 else 0), cy + up - _LINE_POINTS / 2
            box = (left, low, left + wide, low + _LINE_POINTS)
            if box[2] <= right and not any(
                box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in boxes
            ):
                break
        boxes.append(box)
        line = {"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 1, "shrinkB": 3}
        axes.annotate(
            label, (x, y), (across, up), textcoords="offset points", ha="right" if across < 0 else "left",
            va="center", fontsize=8, color=colour, arrowprops=line if abs(up) > _LINE_POINTS else None,
        )  # fmt: skip


@rc_context(STYLE)
def reliability(results: Results, found: SystemCalibration) -> str | None:
    """How often yes is true among candidates by the probability that was said of them."""
    bins = found.measured.equal_mass
    if not bins:
        return None
    figure, axes = new_axes(3.3)
    colour = _COLOURS[results.kind(found.system)]
    x, y = [one.predicted for one in bins], [one.observed for one in bins]
    top = min(1.0, max(0.1, max(*x, *y) * 1.08))
    axes.plot([0, top], [0, top], color=LINE, linewidth=1.2, linestyle=(0, (4, 2)))
    most = max(one.pairs for one in bins)
    axes.plot(x, y, color=colour, linewidth=1.2, alpha=0.7)
    axes.scatter(x, y, [12 + 90 * one.pairs / most for one in bins], color=colour, alpha=0.85, linewidths=0)
    axes.set_xlim(0, top)
    axes.set_ylim(0, top)
    finish(axes, "probability said", "share that was true")
    axes.grid(axis="both")
    words = "; ".join(f"said {b.predicted:.3f}, true {b.observed:.3f} of {b.pairs}" for b in bins)
    label = results.label(found.system)
    return to_svg(figure, figure_id("reliability", found.system), f"Reliability of {label}", words)


Logged = Sequence[Mapping[str, Any]]


@rc_context(STYLE)
def curves(name: str, title: str, axis: str, up: str, series: Mapping[str, tuple[Logged, str]]) -> str | None:
    """Draw logged values over a common axis: series by what they are, each with its rows and its column.

    A noisy series is drawn thin, with its running mean over it.
    """
    points = {what: _points(rows, axis, column) for what, (rows, column) in series.items()}
    points = {what: found for what, found in points.items() if found}
    if not points:
        return None
    figure, axes = new_axes(2.5)
    for (what, found), colour in zip(points.items(), (OWN, MARK), strict=False):
        x, y = np.asarray(found).T
        if len(found) >= 40:
            axes.plot(x, y, color=colour, linewidth=0.7, alpha=0.35)
            window = max(3, len(found) // 15) | 1
            y = np.convolve(np.pad(y, window // 2, mode="edge"), np.ones(window) / window, "valid")
        form = "o-" if len(found) < 10 else "-"
        axes.plot(x, y, form, color=colour, linewidth=1.6, markersize=3.5, label=what)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    finish(axes, axis, up)
    words = "; ".join(
        f"{what} {found[0][1]:.3f} at {axis} {found[0][0]:g}, {found[-1][1]:.3f} at {axis} {found[-1][0]:g}"
        for what, found in points.items()
    )
    return to_svg(figure, name, title, words)


@rc_context(STYLE)
def recall_by_epoch(epochs: Logged) -> str | None:
    """Sum of validation Recall after each epoch, by which the best epoch is chosen; the best is marked."""
    points = _points(epochs, "epoch", "valid_recall_sum")
    if not points:
        return None
    figure, axes = new_axes(2.5)
    axes.plot(*zip(*points, strict=True), "o-", color=OWN, markersize=4, linewidth=1.4)
    epoch, best = max(points, key=lambda point: point[1])
    axes.plot([epoch], [best], "o", color=MARK, markersize=9, fillstyle="none", markeredgewidth=1.6)
    place: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "color": MARK}
    axes.annotate(f"best {best:.3f}", (epoch, best), (0, 9), **place)
    axes.margins(x=0.12, y=0.25)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    finish(axes, "epoch", "validation Recall, summed")
    words = f"The best epoch is {epoch:g} with {best:.3f}; " + "; ".join(f"{e:g}: {r:.3f}" for e, r in points)
    return to_svg(figure, "recall-by-epoch", "Validation Recall by epoch", words)


def _points(rows: Logged, x: str, y: str) -> list[tuple[float, float]]:
    found = ((row.get(x), row.get(y)) for row in rows)
    return [(float(across), float(up)) for across, up in found if across is not None and up is not None]


@rc_context(STYLE)
def p_yes(targets: Sequence[float], negatives: Sequence[float]) -> str | None:
    """How p(yes) is spread over the targets and over the negatives, each as shares of their own number."""
    if not len(targets) or not len(negatives):
        return None
    figure, axes = new_axes(2.5)
    low, high = (
        turn(end(*targets, *negatives) * 10) / 10 for turn, end in ((math.floor, min), (math.ceil, max))
    )
    edges = np.linspace(low, max(high, low + 0.1), 25)
    for values, colour, label in ((negatives, MUTED, "negatives"), (targets, OWN, "targets")):
        shares = np.histogram(values, edges)[0] / len(values)
        axes.stairs(shares, edges, fill=True, color=colour, alpha=0.22)
        axes.stairs(shares, edges, color=colour, linewidth=1.5, label=label)
        axes.axvline(float(np.median(values)), color=colour, linewidth=1, linestyle=_DASHED)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_ylim(bottom=0)
    finish(axes, "p(yes)", "share of each group")
    words = f"Median p(yes): targets {np.median(targets):.3f}, negatives {np.median(negatives):.3f}."
    return to_svg(figure, "p-yes", "p(yes) of targets and of negatives", words)


@rc_context(STYLE)
def history_lengths(lengths: Sequence[int]) -> str | None:
    """How many users have histories of which length."""
    if not len(lengths):
        return None
    figure, axes = new_axes(2.5)
    low, high = min(lengths), max(lengths)
    width = max(1, math.ceil((high - low + 1) / 40))
    edges = np.arange(low, high + width + 1, width) - 0.5
    counts = np.histogram(lengths, edges)[0]
    axes.bar(edges[:-1] + width / 2, counts, width=width * 0.82, color=OWN, alpha=0.75)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    finish(axes, "items before the target", "users")
    words = f"{len(lengths)} users; {low} to {high} items, median {np.median(lengths):g}."
    return to_svg(figure, "lengths", "History lengths", words)


@rc_context(STYLE)
def target_ranks(ranks: Sequence[float], candidates: int) -> str | None:
    """How often the target stands at which place; dashed: what blind chance would give."""
    if not len(ranks):
        return None
    figure, axes = new_axes(2.5)
    shares = np.histogram(ranks, np.arange(1, candidates + 2) - 0.25)[0] / len(ranks)
    axes.bar(np.arange(1, candidates + 1), shares, width=0.82, color=OWN, alpha=0.75)
    axes.axhline(1 / candidates, color=MARK, linewidth=1.2, linestyle=_DASHED, label="chance")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    step = max(1, 5 * round(candidates / 25)) if candidates > 12 else max(1, candidates // 5)
    axes.set_xticks([place for place in range(1, candidates + 1) if place == 1 or place % step == 0])
    finish(axes, "place of the target", "share of users")
    axes.legend(loc="upper right")
    median = f"median place {np.median(ranks):g} of {candidates}"
    words = f"First place for {shares[0]:.1%} of {len(ranks)} users; {median}."
    return to_svg(figure, "ranks", "Where the target stands", words)


@dataclass(frozen=True, slots=True)
class Point:
    """A measured value at a named place of a chart of settings; the default one is marked."""

    place: str
    value: Estimate
    by_seed: tuple[float, ...] = ()
    is_default: bool = False


@rc_context(STYLE)
def settings(
    name: str,
    axis: str,
    measure: str,
    series: Mapping[str, Sequence[Point]],
    limits: tuple[float, float] | None = None,
    joined: bool = True,
) -> str | None:
    """Draw a measure over the values of a setting: intervals, rings for single seeds, the default shaded.

    Each series is a curve of its own, unless its values have no order and are not `joined`.
    """
    places = list(dict.fromkeys(point.place for points in series.values() for point in points))
    if not places:
        return None
    figure, axes = new_axes(2.7)
    for index, (label, points) in enumerate(series.items()):
        colour, shift = _SHADES[index % len(_SHADES)], 0.07 * (index - (len(series) - 1) / 2)
        across = [places.index(point.place) + shift for point in points]
        if joined:
            dashes, means = _DASHES[index % len(_DASHES)], [point.value.mean for point in points]
            axes.plot(across, means, color=colour, linewidth=1.2, alpha=0.7, linestyle=dashes, label=label)
        for place, point in zip(across, points, strict=True):
            own, form = (MARK, "s") if point.is_default else (colour, "o")
            if point.is_default:
                axes.axhspan(point.value.low, point.value.high, color=MARK, alpha=0.09, linewidth=0)
            _interval(axes, place, point.value, own, form, upright=True)
            if len(point.by_seed) > 1:
                rings: dict[str, Any] = {"markersize": 3.2, "fillstyle": "none", "markeredgewidth": 0.8}
                axes.plot([place + 0.12] * len(point.by_seed), point.by_seed, "o", color=own, **rings)
    axes.set_xticks(range(len(places)), [shortened(place, 16) for place in places])
    if sum(len(place) for place in places) > 30:
        axes.tick_params(axis="x", labelrotation=25)
    axes.set_xlim(-0.6, len(places) - 0.4)
    if limits:
        axes.set_ylim(*limits)
    finish(axes, axis, measure)
    words = "; ".join(
        f"{label}{', ' if label else ''}{point.place}{' (default)' if point.is_default else ''} "
        f"{point.value.mean:.3f}"
        for label, points in series.items()
        for point in points
    )
    return to_svg(figure, name, f"{measure} by {axis}" if axis else measure, words)
