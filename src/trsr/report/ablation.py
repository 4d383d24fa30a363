"""The page of an ablation: one setting changed at a time, everything else as in the default setting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trsr.evaluation.statistics import Estimate
from trsr.report import charts
from trsr.report.charts import Point, limits_of
from trsr.report.findings import Headline
from trsr.report.results import LEVEL, Provenance
from trsr.report.sections import PROVENANCE, Figure, Section
from trsr.report.svg import figure_id
from trsr.report.words import counted, listed, p_value, sampler_name, signed, split_name


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

    @property
    def default(self) -> Variant | None:
        """The default variant; None when it was not measured."""
        return next((variant for variant in self.variants if variant.is_default), None)

    @property
    def best(self) -> float:
        """The highest mean."""
        return max((variant.value.mean for variant in self.variants), default=0.0)


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

    @property
    def outcome(self) -> tuple[str, str]:
        """Whether it came out: ``holds``, ``open``, ``fails`` or ``absent``, and the same in words."""
        ends = self.difference
        if ends is None:
            return "absent", "Not measured"
        if ends.low > 0:
            return "holds", "Comes out"
        return ("fails", "The contrary came out") if ends.high < 0 else ("open", "Can’t be told")


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

    def cell(self, row: str, column: str) -> Cell | None:
        """Give the cell of a combination; None when it was not measured."""
        return next((cell for cell in self.cells if (cell.row, cell.column) == (row, column)), None)


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


def headline(content: AblationContent) -> tuple[Headline, list[str]]:
    """Say which settings the paired tests tell apart from the default, and in sentences how far."""
    panels = content.panels
    told = {
        panel.name: [one for one in panel.variants if one.p is not None and one.p < LEVEL] for panel in panels
    }
    changes: dict[bool, list[str]] = {True: [], False: []}
    for panel in panels:
        for variant in told[panel.name] if panel.default else ():
            assert panel.default is not None
            difference = variant.value.mean - panel.default.value.mean
            words = f"{panel.name} “{variant.label}” ({signed(difference)}, p {p_value(variant.p)})"
            changes[difference > 0].append(words)
    tested = {panel.name: any(one.p is not None for one in panel.variants) for panel in panels}
    untold = [name for name, found in told.items() if tested[name] and not found]
    untested = [name for name, is_tested in tested.items() if not is_tested]
    sentences = [f"Better than the default: {listed(changes[True])}."] if changes[True] else []
    sentences += [f"Worse than the default: {listed(changes[False])}."] if changes[False] else []
    if untold:
        sentences.append(
            f"No value can be told apart from the default in: {listed(untold)}. This does not show that the "
            "values are equal: the intervals say how large a difference could have been missed."
        )
    sentences += [f"Not tested: {listed(untested)}."] if untested else []
    users = content.provenance.users.get(content.split, 0)
    task = (
        f"{content.measure} of {counted(users, split_name(content.split).lower().removesuffix('s'))}, "
        f"{content.candidates} candidates each, {sampler_name(content.sampler)}"
        f"{', with one setting changed at a time' if panels else ''}."
    )
    return Headline(_title(content, [name for name, found in told.items() if found]), task), sentences


def _title(content: AblationContent, told: Sequence[str]) -> str:
    if told:
        return f"Clearly matters, of {counted(len(content.panels), 'setting')}: {listed(told)}"
    if content.panels:
        return "No changed setting can be told apart from the default"
    if not content.grids:
        return "No setting was changed"
    outcomes = [expected.outcome[0] for grid in content.grids for expected in grid.expectations]
    if not outcomes:
        return "Two settings were crossed"
    came_out = outcomes.count("holds")
    if came_out == len(outcomes):
        return "What was planted comes out in full"
    return f"Of {counted(len(outcomes), 'planted order')}, {came_out} came out"


def _result(content: AblationContent) -> dict[str, Any]:
    first, sentences = headline(content)
    return {"headline": first, "sentences": sentences}


def _panels(content: AblationContent) -> dict[str, Any]:
    """Draw every panel, all on one scale."""
    variants = [variant for panel in content.panels for variant in panel.variants]
    seeds = [Estimate(mean, mean, mean) for variant in variants for mean in variant.by_seed]
    limits = limits_of([*(variant.value for variant in variants), *seeds])
    missing = "No value of this setting was measured."
    figures = []
    for panel in content.panels:
        points = [Point(one.label, one.value, one.by_seed, one.is_default) for one in panel.variants]
        name = figure_id("panel", panel.name)
        svg = charts.settings(name, panel.name, content.measure, {"": points}, limits, joined=panel.numeric)
        figures.append(Figure(panel.name, panel.question, svg, missing))
    return {"figures": figures}


def _grids(content: AblationContent) -> dict[str, Any]:
    """Draw every grid, a curve a row over the columns."""
    caption = "Dots: means over users; lines: 95% intervals; rings: single training seeds."
    figures = []
    for grid in content.grids:
        series = {
            row: [
                Point(column, cell.value, cell.by_seed)
                for column in grid.columns
                if (cell := grid.cell(row, column))
            ]
            for row in grid.rows
        }
        svg = charts.settings(figure_id("grid", grid.name), "", content.measure, series)
        figures.append(Figure(grid.name, caption, svg, "No combination was measured."))
    return {"crossed": list(zip(content.grids, figures, strict=True))}


def _source(content: AblationContent) -> dict[str, Any]:
    return {"source": content.provenance, "csv": ""}


_TEMPLATE = "ablation.html.jinja"
ABLATION = (
    Section("result", "", "", _TEMPLATE, _result),
    Section(
        "panels", "Settings", "One setting at a time", _TEMPLATE, _panels, lambda content: content.panels
    ),
    Section(
        "grids",
        "Crossed",
        "Summary and recent items, crossed",
        _TEMPLATE,
        _grids,
        lambda content: content.grids,
    ),
    Section("provenance", "Provenance", "Provenance", PROVENANCE.template, _source),
)
