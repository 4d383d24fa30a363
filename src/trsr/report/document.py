"""A template and its values become one self-contained HTML document, with everything escaped."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from trsr.report import measures, wording

_TEMPLATES: Final = Path(__file__).parent / "templates"


def document(template: str, **values: Any) -> str:
    """Render one of the room's pages as a whole HTML document, to be written as UTF-8.

    The page needs no network: styles, script and figures are inside it, and its
    own security policy forbids everything else. The same values give the same
    bytes. `template` is a file in ``templates/`` that extends ``base.html.jinja``; every text that it shows
    is escaped.
    """
    script = (_TEMPLATES / "page.js").read_text(encoding="utf-8")
    page = (
        _environment()
        .get_template(template)
        .render(
            **values,
            style=Markup((_TEMPLATES / "page.css").read_text(encoding="utf-8")),
            script=Markup(script),
            script_hash=b64encode(sha256(script.encode()).digest()).decode(),
        )
    )
    return page.encode("utf-8", errors="replace").decode("utf-8")


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        amount=wording.amount,
        count=wording.count,
        cutoff=measures.cutoff,
        family=measures.family,
        counted=wording.counted,
        decimal=wording.decimal,
        duration=wording.duration,
        listed=wording.listed,
        p_value=wording.p_value,
        percent=wording.percent,
        rank=wording.rank,
        sampler_name=wording.sampler_name,
        signed=wording.signed,
        split_name=wording.split_name,
        svg=Markup,
        system_name=wording.system_name,
    )
    return environment
