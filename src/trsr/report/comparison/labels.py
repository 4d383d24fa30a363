"""Words beside the points of a scatter plot, moved until none covers another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

_SIGN_POINTS: Final = 4.9
_LINE_POINTS: Final = 10.5
_GAP_POINTS: Final = 7.0
_FONT_SIZE: Final = 8
_STEPS: Final = 24

Box = tuple[float, float, float, float]


def spread_out(axes: Axes, points: Sequence[tuple[float, float, str, str]]) -> None:
    """Name every point, at its right or left, shifted up or down to the nearest free place.

    Parameters
    ----------
    axes
        With its scale and limits final.
    points
        Place across and up in the units of the axes, label, colour.
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
