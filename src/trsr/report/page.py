"""The page of a run: its content, words and figures, put together."""

from __future__ import annotations

import math

from trsr.report.comparison.page import reliability_figures, weight_list
from trsr.report.comparison.results import Kind, Roster, System
from trsr.report.content import ReportContent, UserCard
from trsr.report.document import document
from trsr.report.figures import data_figures, metric_figures, training_figures
from trsr.report.headline import headline
from trsr.report.measures import boards


def render(content: ReportContent) -> str:
    """Make the report's page as a whole HTML document, to be written as UTF-8.

    Every text in the content is escaped; the same content gives the same bytes. Raises `ArtifactError` when
    the metrics are not of the form that the evaluation writes.
    """
    measured = boards(content.metrics, content.system, content.fused)
    roster = Roster(
        (
            System(content.system, kind=Kind.LANGUAGE_MODEL),
            System(content.fused, kind=Kind.FUSED),
        )
    )
    return document(
        "page.html.jinja",
        content=content,
        boards=measured,
        headline=headline(content, measured),
        metric_figures=metric_figures(measured[0]) if measured else (),
        training_figures=training_figures(content),
        data_figures=data_figures(content, measured),
        calibration=reliability_figures(content.calibration, roster),
        fusion=weight_list(content.fusion, roster) if content.fusion else None,
        label=roster.label,
        scale=p_yes_scale(content.cards),
    )


def p_yes_scale(cards: tuple[UserCard, ...]) -> float:
    """Give the p(yes) at which a bar is full on every card: the highest of all, rounded up to tenths."""
    highest = max((line.p_yes for card in cards for line in card.ranked), default=1.0)
    return min(1.0, max(0.1, math.ceil(highest * 10 - 1e-9) / 10))
