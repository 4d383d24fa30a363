"""The page of a comparison: its figures and lists, put together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from trsr.evaluation.slices import FEW_USERS
from trsr.report.charts import limits_of
from trsr.report.comparison import plots
from trsr.report.comparison.board import Board, board, to_csv
from trsr.report.comparison.headline import headline
from trsr.report.comparison.results import ComparisonContent, Kind, Roster, Slice
from trsr.report.document import document
from trsr.report.figures import Figure
from trsr.report.insights import Agreement, Calibration, Fusion
from trsr.report.measures import in_order
from trsr.report.wording import capitalised, counted, listed, percent, sampler_name, system_description

_CONDITIONS = {"cold item": "items that training never saw", "drawn by it": "candidates drawn by popularity"}
_NAMED = 2
_SLIGHT = 0.1
"""Below this share of the largest weight an input has hardly a say."""


@dataclass(frozen=True, slots=True)
class HeatCell:
    """A share as text, and how dark it is: 0 to 1."""

    text: str
    heat: float
    is_own: bool


@dataclass(frozen=True, slots=True)
class HeatRow:
    """A system and its cells."""

    label: str
    cells: tuple[HeatCell, ...]


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Shared hits as a table of colours and numbers, and in words which systems find what others miss."""

    columns: tuple[str, ...]
    rows: tuple[HeatRow, ...]
    sentence: str


@dataclass(frozen=True, slots=True)
class WeightBar:
    """One input of the fused ranker: its weight with the ends of the 95% interval.

    `share` is per cent of the largest weight, by size.
    """

    label: str
    value: float
    low: float | None
    high: float | None
    share: float


@dataclass(frozen=True, slots=True)
class WeightList:
    """All inputs by falling size, and a sentence about them."""

    weights: tuple[WeightBar, ...]
    intercept: float | None
    sentence: str


def heat_map(found: Agreement, roster: Roster) -> HeatMap:
    """Give the matrix its colours, and name the pair of systems that find most together.

    Examples
    --------
    >>> made = heat_map(Agreement("uniform", 3, 10, ("a", "b"), ((0.5, 0.2), (0.2, 0.4))), Roster(()))
    >>> print(made.sentence)
    The two systems that find most together are a and b: one or both have the target among the first 3
    for 70% of users, the better of them alone for 50%.
    """
    top = max((share for row in found.shared for share in row), default=0.0)
    rows = tuple(
        HeatRow(
            roster.label(name),
            tuple(
                HeatCell(f"{100 * share:.1f}", share / top if top else 0.0, across == down)
                for across, share in enumerate(found.shared[down])
            ),
        )
        for down, name in enumerate(found.systems)
    )
    return HeatMap(tuple(roster.label(name) for name in found.systems), rows, _complement(found, roster))


def _complement(found: Agreement, roster: Roster) -> str:
    """Say which two systems find most; a fused ranker is left out, as it is a join already."""
    own = {
        place: found.shared[place][place]
        for place, name in enumerate(found.systems)
        if roster.kind(name) is not Kind.FUSED
    }
    pairs = [(own[a] + own[b] - found.shared[a][b], -a, -b) for a in own for b in own if a < b]
    if not pairs:
        return "With one system there is nothing to share."
    union, a, b = max(pairs)
    names = listed([roster.inside(found.systems[-place]) for place in (a, b)])
    return (
        f"The two systems that find most together are {names}: one or both have the target among the first "
        f"{found.k} for {percent(union)} of users, the better of them alone for "
        f"{percent(max(own[-a], own[-b]))}."
    )


def weight_list(found: Fusion, roster: Roster) -> WeightList:
    """Order the inputs by the size of their weights, and say which of them decide.

    Examples
    --------
    >>> from trsr.report.insights import FusedWeight
    >>> weights = (FusedWeight("tfidf", 0.01), FusedWeight("sasrec", 1.2), FusedWeight("popularity", -0.4))
    >>> print(weight_list(Fusion("fused", weights, "validation users"), Roster(())).sentence)
    Most weight goes to SASRec (+1.200). Popularity counts against a candidate. TF-IDF similarity has
    hardly a say. Fitted on: validation users.
    """
    ordered = sorted(found.weights, key=lambda weight: (-abs(weight.weight), weight.name))
    top = abs(ordered[0].weight) if ordered else 0.0
    bars = tuple(
        WeightBar(
            _input_label(one.name, roster),
            one.weight,
            one.low,
            one.high,
            100 * abs(one.weight) / top if top else 0.0,
        )
        for one in ordered
    )
    return WeightList(bars, found.intercept, " ".join(_weights_in_words(bars, found.fitted_on)))


def _input_label(name: str, roster: Roster) -> str:
    """Name an input; ``tfidf, cold item`` is what TF-IDF adds where training saw nothing."""
    system, comma, condition = name.partition(", ")
    if not comma:
        return roster.label(name)
    return f"{roster.label(system)}, in addition for {_CONDITIONS.get(condition, condition)}"


def _weights_in_words(bars: tuple[WeightBar, ...], fitted_on: str) -> list[str]:
    heavy = [bar for bar in bars if bar.share >= 100 * _SLIGHT and not math.isnan(bar.value)]
    slight = [bar.label for bar in bars if bar.share < 100 * _SLIGHT]
    helpful = [f"{bar.label} ({bar.value:+.3f})" for bar in heavy if bar.value > 0]
    against = [bar.label for bar in heavy if bar.value < 0]
    sentences = []
    if helpful:
        then = f", then to {listed(helpful[1:])}" if len(helpful) > 1 else ""
        sentences.append(f"Most weight goes to {helpful[0]}{then}.")
    if against:
        verb = "counts" if len(against) == 1 else "count"
        sentences.append(f"{listed(against)} {verb} against a candidate.")
    if slight:
        named = listed(slight) if len(slight) <= _NAMED else counted(len(slight), "other input")
        sentences.append(f"{named} {'has' if len(slight) == 1 else 'have'} hardly a say.")
    if fitted_on:
        sentences.append(f"Fitted on: {fitted_on}.")
    return sentences


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


def render(content: ComparisonContent) -> str:
    """Make the comparison's page as a whole HTML document, to be written as UTF-8.

    Every text in the content is escaped; the same content gives the same bytes.
    """
    roster, measure = Roster(content.systems), content.measure
    boards = tuple(board(table.sampler, table.standings, roster, measure) for table in content.tables)
    catalogue, two_stage = content.catalogue, content.two_stage
    whole = board(catalogue.sampler, catalogue.standings, roster, measure) if catalogue else None
    two = board("two steps", two_stage.standings, roster, measure) if two_stage else None
    csv = to_csv([made for made in (*boards, whole, two) if made is not None])
    return document(
        "comparison/page.html.jinja",
        content=content,
        headline=headline(content, boards),
        boards=boards,
        catalogue=whole,
        two_stage=two,
        retriever=roster.label(two_stage.retriever) if two_stage else "",
        overview=overview(boards, roster, measure) if boards else None,
        measures=other_measures(boards, roster, measure),
        curves=recall_figures(content, roster),
        slices=slice_groups(content, boards, roster),
        cost=cost_figure(boards, roster),
        calibration=reliability_figures(content.calibration, roster),
        fusion=weight_list(content.fusion, roster) if content.fusion else None,
        agreement=heat_map(content.agreement, roster) if content.agreement else None,
        described={
            roster.label(one.name): words
            for one in content.systems
            if (words := one.description or system_description(one.name))
        },
        tested=in_order(
            name for made in boards for line in made.lines for name in line.standing.p_against_best
        ),
        label=roster.label,
        csv=f"data:text/csv;charset=utf-8,{quote(csv, safe='')}" if boards else "",
    )
