"""The sections that show results, on every page that has some: what each shows, and when it applies."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from trsr.evaluation.scoreboard import FEW_USERS
from trsr.report import charts
from trsr.report.charts import limits_of
from trsr.report.findings import complement, headline, input_label, weights_in_words
from trsr.report.results import MetricTable, Results, Slice, system_rows
from trsr.report.words import counted, in_order, listed, sampler_name, system_description


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a page: its place in the contents, and the macro of a template that prints it.

    Parameters
    ----------
    name
        Its id on the page, and the name of the macro; unique on a page.
    title
        Its words in the contents; the first section has none.
    heading
        Its heading; the first section makes its own.
    context
        Makes what the macro shows beside the page's content.
    applies
        Says of the content whether there is anything to show.
    """

    name: str
    title: str
    heading: str
    template: str
    context: Callable[[Any], dict[str, Any]] = lambda content: {}
    applies: Callable[[Any], bool] = lambda content: True


@dataclass(frozen=True, slots=True)
class Figure:
    """One chart with its words; `caption` says how to read it.

    Where there is nothing to draw, `svg` is None and `missing` stands in its place.
    """

    title: str
    caption: str
    svg: str | None
    missing: str


def result(results: Results) -> dict[str, Any]:
    """Say what came out, and show the primary measure of every system."""
    return {"headline": headline(results), "overview": _overview(results, results.measure), "facts": {}}


def tables(results: Results) -> dict[str, Any]:
    """Show every figure of every table, and what the words in them mean."""
    described = {
        results.label(one.name): words
        for one in results.systems
        if (words := one.description or system_description(one.name))
    }
    tested = in_order(name for table in results.tables for row in table.rows for name in row.p_against_best)
    return {"described": described, "tested": tested}


def pictures(results: Results) -> dict[str, Any]:
    """Draw Recall by cut-off, groups of users, accuracy against time, and all other measures."""
    curves = [
        Figure(
            f"Recall by cut-off, {sampler_name(table.sampler)}",
            "Bands: 95% intervals. The best baseline is dashed; dotted: blind chance.",
            charts.recall_curves(results, table),
            "Recall was not measured at more than one cut-off.",
        )
        for table in results.main_tables
    ]
    slices = [(table, [found for found in table.slices if found.values]) for table in results.main_tables]
    names = in_order(name for table in results.main_tables for name in table.metrics)
    return {
        "curves": curves,
        "slices": [(table.sampler, _slices(results, table, found)) for table, found in slices if found],
        "cost": _cost(results),
        "measures": [_overview(results, name) for name in names if name != results.measure],
    }


def catalogue(results: Results) -> dict[str, Any]:
    """Show ranks in the whole catalogue, and below them what its lists are beyond accurate."""
    rows = results.catalogue.rows if results.catalogue else ()
    return {"beyond": in_order(name for row in rows for name in row.beyond)}


def probabilities(results: Results) -> dict[str, Any]:
    """Show whether probabilities hold, and the fused ranker's weights by falling size."""
    figures = [
        Figure(
            results.label(one.system),
            f"Expected calibration error {one.measured.ece_equal_mass.mean:.3f}, Brier score "
            f"{one.measured.brier.mean:.3f}. Dashed: perfect.",
            charts.reliability(results, one),
            "No candidates were in any bin.",
        )
        for one in results.calibration
    ]
    fusion = results.fusion
    weights = sorted(fusion.weights.items(), key=lambda one: (-abs(one[1]), one[0])) if fusion else []
    top = max((abs(weight) for _, weight in weights), default=0.0)
    shown = [
        (input_label(results, name), weight, 100 * abs(weight) / top if top else 0.0)
        for name, weight in weights
    ]
    return {
        "figures": figures,
        "weights": shown,
        "sentences": weights_in_words(results, fusion) if fusion else [],
    }


def agreement(results: Results) -> dict[str, Any]:
    """Show which systems hit for the same users, darker where they share more."""
    found = results.agreement
    top = max((share for row in found.shared for share in row), default=0.0) if found else 0.0
    return {"top": top or 1.0, "sentence": complement(results, found) if found else ""}


def users(results: Results) -> dict[str, Any]:
    """Show users one by one; where scores are probabilities, as bars on one scale for all."""
    cases = [case for group in (results.cases.groups if results.cases else {}).values() for case in group]
    scores = [item.score for case in cases for ranking in case.rankings for item in ranking.items]
    # Two systems' scores can't share a scale.
    is_alone = all(len(case.rankings) == 1 for case in cases)
    return {"scale": full_bar(scores) if scores and is_alone else None}


def full_bar(scores: list[float]) -> float:
    """Give the p(yes) at which a bar is full on every card: the highest of all, rounded up to tenths.

    Examples
    --------
    >>> full_bar([0.2, 0.52]), full_bar([0.001]), full_bar([])
    (0.6, 0.1, 1.0)
    """
    return min(1.0, max(0.1, math.ceil(max(scores, default=1.0) * 10 - 1e-9) / 10))


def provenance(results: Results) -> dict[str, Any]:
    """Say where figures come from, and give them all as one table."""
    table = system_rows(results).write_csv() if results.systems else ""
    link = f"data:text/csv;charset=utf-8,{quote(table, safe='', errors='replace')}" if table else ""
    return {"source": results.provenance, "csv": link}


def _overview(results: Results, metric: str) -> Figure:
    caption = "Dot: mean over users; line: 95% interval. Order: by the left panel."
    svg = charts.by_system(results, metric) if results.tables else None
    return Figure(f"{metric} of every system", caption, svg, f"{metric} was not measured.")


def _slices(results: Results, table: MetricTable, groups: list[Slice]) -> list[Figure]:
    """Draw small multiples by group of users; all of a table share a scale."""
    limits = limits_of([value for found in groups for value in found.values.values()])
    few = " Few users: their intervals say little."
    return [
        Figure(
            f"{found.name[:1].upper()}{found.name[1:]} ({counted(found.users, 'user')})",
            f"Here {found.rule}.{few if found.users < FEW_USERS else ''}",
            charts.by_slice(results, table, found, limits),
            "No system of the table was measured on these users.",
        )
        for found in groups
    ]


def _cost(results: Results) -> Figure:
    rows = results.tables[0].rows if results.tables else ()
    untimed = [results.label(row.system) for row in rows if not results.system(row.system).seconds]
    left_out = f" Without a measured time, and so not shown: {listed(untimed)}." if untimed else ""
    return Figure(
        "Accuracy against time",
        "Further up is better, further left is cheaper; lines: 95% intervals." + left_out,
        charts.by_cost(results),
        "Times of fewer than two systems were measured.",
    )


_RESULTS = "results.html.jinja"
RESULT = Section("result", "", "", _RESULTS, result)
TABLES = Section("tables", "Tables", "Tables", _RESULTS, tables)
PICTURES = Section("pictures", "Pictures", "Pictures", _RESULTS, pictures)
CATALOGUE = Section("catalogue", "Whole catalogue", "In the whole catalogue", _RESULTS, catalogue)
PROBABILITIES = Section(
    "probabilities", "Probabilities", "Can the probabilities be believed?", _RESULTS, probabilities
)
AGREEMENT = Section("agreement", "Agreement", "Who finds what", _RESULTS, agreement)
USERS = Section("users", "Users", "Users, one by one", _RESULTS, users)
PROVENANCE = Section("provenance", "Provenance", "Provenance", _RESULTS, provenance)
COMPARISON = (RESULT, TABLES, PICTURES, CATALOGUE, PROBABILITIES, AGREEMENT, USERS, PROVENANCE)
