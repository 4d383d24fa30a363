"""One self-contained page: the template, its words and figures, put together with everything escaped."""

from __future__ import annotations

import math
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from trsr.report import wording
from trsr.report.content import ReportContent, UserCard
from trsr.report.figures import data_figures, metric_figures, training_figures
from trsr.report.headline import headline
from trsr.report.measures import boards

_TEMPLATES: Final = Path(__file__).parent / "templates"


def render(content: ReportContent) -> str:
    """Make the report's HTML.

    The page needs no network: styles, script and figures are inside it, and its
    own security policy forbids everything else. The same content gives the same
    bytes.

    Parameters
    ----------
    content
        What to show; every text in it is escaped.

    Returns
    -------
    str
        A whole HTML document that can be written as UTF-8.

    Raises
    ------
    ArtifactError
        When the metrics are not of the form that the evaluation writes.
    """
    measured = boards(content.metrics, content.system)
    script = (_TEMPLATES / "page.js").read_text(encoding="utf-8")
    page = (
        _environment()
        .get_template("page.html.jinja")
        .render(
            content=content,
            boards=measured,
            headline=headline(content, measured),
            metric_figures=metric_figures(measured[0]) if measured else (),
            training_figures=training_figures(content),
            data_figures=data_figures(content, measured),
            scale=p_yes_scale(content.cards),
            style=Markup((_TEMPLATES / "page.css").read_text(encoding="utf-8")),
            script=Markup(script),
            script_hash=b64encode(sha256(script.encode()).digest()).decode(),
        )
    )
    return page.encode("utf-8", errors="replace").decode("utf-8")


def p_yes_scale(cards: tuple[UserCard, ...]) -> float:
    """Give the p(yes) at which a bar is full on every card: the highest of all, rounded up to tenths."""
    highest = max((line.p_yes for card in cards for line in card.ranked), default=1.0)
    return min(1.0, max(0.1, math.ceil(highest * 10 - 1e-9) / 10))


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=wording.count,
        counted=wording.counted,
        decimal=wording.decimal,
        duration=wording.duration,
        percent=wording.percent,
        rank=wording.rank,
        split_name=wording.split_name,
        system_name=wording.system_name,
        svg=Markup,
    )
    return environment
