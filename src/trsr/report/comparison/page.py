"""The page of a comparison: its tables, words and figures, put together."""

from __future__ import annotations

from urllib.parse import quote

from trsr.report.comparison import figures
from trsr.report.comparison.board import board, to_csv
from trsr.report.comparison.content import ComparisonContent
from trsr.report.comparison.headline import headline
from trsr.report.comparison.roster import Roster
from trsr.report.comparison.views import heat_map, weight_list
from trsr.report.document import document
from trsr.report.measures import in_order
from trsr.report.wording import system_description


def render(content: ComparisonContent) -> str:
    """Make the comparison's HTML.

    Parameters
    ----------
    content
        What to show; every text in it is escaped.

    Returns
    -------
    str
        A whole HTML document that can be written as UTF-8; the same content gives the same bytes.
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
        overview=figures.overview(boards, roster, measure) if boards else None,
        measures=figures.other_measures(boards, roster, measure),
        curves=figures.recall_figures(content, roster),
        slices=figures.slice_groups(content, boards, roster),
        cost=figures.cost_figure(boards, roster),
        calibration=figures.reliability_figures(content.calibration, roster),
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
