"""The plots of an ablation: each gives one SVG element, or None when there is nothing to draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from matplotlib import rc_context
from matplotlib.axes import Axes

from trsr.evaluation.intervals import Estimate
from trsr.report.ablation.content import Grid, Panel
from trsr.report.ablation.headline import default_of
from trsr.report.svg import INK, MARK, MUTED, OWN, STYLE, figure_id, finish, new_axes, to_svg
from trsr.report.wording import shortened

_LABEL_CHARS: Final = 16
_TURNED_FROM: Final = 30
_DASHES: Final = ("-", (0, (5, 1.5)), (0, (2, 1)), (0, (5, 1, 1, 1)))
_SHADES: Final = (OWN, MARK, INK, MUTED)


@rc_context(STYLE)
def panel(found: Panel, limits: tuple[float, float], measure: str) -> str | None:
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
def grid(found: Grid, measure: str) -> str | None:
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
