"""Which plots the page of a comparison shows, with captions, and the sentence where one can't be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trsr.evaluation.slices import FEW_USERS
from trsr.report.comparison import plots
from trsr.report.comparison.board import Board
from trsr.report.comparison.content import ComparisonContent
from trsr.report.comparison.insights import Calibration
from trsr.report.comparison.roster import Roster
from trsr.report.comparison.standings import Slice
from trsr.report.figures import Figure
from trsr.report.measures import in_order
from trsr.report.svg import limits_of
from trsr.report.wording import capitalised, counted, listed, sampler_name


@dataclass(frozen=True, slots=True)
class SliceGroup:
    """All slices of one table."""

    sampler: str
    figures: tuple[Figure, ...]


def overview(boards: Sequence[Board], roster: Roster, measure: str) -> Figure:
    """One measure of every system, with all kinds of negatives side by side."""
    caption = "Dot: mean over test users; line: 95% interval. Order: by the left panel."
    svg = plots.by_system(boards, roster, measure) or ""
    return Figure(f"{measure} of every system", caption, svg, f"{measure} was not measured.")


def other_measures(boards: Sequence[Board], roster: Roster, measure: str) -> tuple[Figure, ...]:
    """Draw the same for every measure but the primary one."""
    names = in_order(name for made in boards for name in made.names)
    return tuple(overview(boards, roster, name) for name in names if name != measure)


def recall_figures(content: ComparisonContent, roster: Roster) -> tuple[Figure, ...]:
    """Recall by cut-off, one figure a table."""
    return tuple(
        Figure(
            f"Recall by cut-off, {sampler_name(table.sampler)}",
            "Bands: 95% intervals. The best baseline is dashed; dotted: blind chance.",
            plots.recall_curves(table, roster, content.baseline) or "",
            "Recall was not measured at more than one cut-off.",
        )
        for table in content.tables
    )


def slice_groups(
    content: ComparisonContent, boards: Sequence[Board], roster: Roster
) -> tuple[SliceGroup, ...]:
    """Small multiples by group of users, one row of them a table; all of a table share a scale."""
    groups = []
    for table, made in zip(content.tables, boards, strict=True):
        shown = [found for found in table.slices if found.values]
        if not shown:
            continue
        limits = limits_of([value for found in shown for value in found.values.values()])
        figures = tuple(
            Figure(
                f"{capitalised(found.name)} ({counted(found.users, 'user')})",
                f"{capitalised(found.rule)}.{_few(found)}",
                plots.by_slice(found, made, roster, limits) or "",
                "No system of the table was measured on these users.",
            )
            for found in shown
        )
        groups.append(SliceGroup(table.sampler, figures))
    return tuple(groups)


def _few(found: Slice) -> str:
    return " Few users: their intervals say little." if found.users < FEW_USERS else ""


def cost_figure(boards: Sequence[Board], roster: Roster) -> Figure:
    """Accuracy against time, by the first table."""
    made = boards[0] if boards else None
    untimed = [] if made is None else [line.label for line in made.lines if not line.system.seconds]
    left_out = f" Without a measured time, and so not shown: {listed(untimed)}." if untimed else ""
    return Figure(
        "Accuracy against time",
        "Further up is better, further left is cheaper; lines: 95% intervals." + left_out,
        (plots.by_cost(made, roster) if made else None) or "",
        "Times of fewer than two systems were measured.",
    )


def reliability_figures(calibration: Sequence[Calibration], roster: Roster) -> tuple[Figure, ...]:
    """One reliability plot per system that gives a probability."""
    return tuple(
        Figure(
            roster.label(one.system),
            f"Expected calibration error {one.ece:.3f}, Brier score {one.brier:.3f}. Dashed: perfect.",
            plots.reliability(one, roster) or "",
            "No candidates were in any bin.",
        )
        for one in calibration
    )
