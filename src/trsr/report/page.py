"""The one renderer: sections become one self-contained HTML document, with everything escaped."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from trsr.progress import clock
from trsr.report import words
from trsr.report.ablation import ABLATION, AblationContent
from trsr.report.results import Results, spread
from trsr.report.run import RUN, RunContent
from trsr.report.sections import COMPARISON, Section

_TEMPLATES: Final = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of page: what it is called, and of which sections it is made."""

    name: str
    title: str
    sections: Sequence[Section]


_KINDS: Final = {
    RunContent: _Kind("report", "Report of the run", RUN),
    Results: _Kind("comparison", "Comparison", COMPARISON),
    AblationContent: _Kind("ablation", "Ablation", ABLATION),
}


def render(content: RunContent | Results | AblationContent) -> str:
    """Make a page of its sections as a whole HTML document, to be written as UTF-8.

    The page needs no network: styles, script and figures are inside it, and its own security policy forbids
    everything else. Every text in the content is escaped, and the same content gives the same bytes.
    """
    environment, kind = _environment(), _KINDS[type(content)]
    results = content.results if isinstance(content, RunContent) else content
    shared = {"content": content, "results": results}
    bodies = []
    for section in kind.sections:
        if section.applies(content):
            template = environment.get_template(section.template)
            module = template.make_module({**shared, **section.context(content)})
            bodies.append((section, getattr(module, section.name)()))
    script = (_TEMPLATES / "page.js").read_text(encoding="utf-8")
    page = environment.get_template("page.html.jinja").render(
        kind=kind,
        name=results.name,
        bodies=bodies,
        style=Markup((_TEMPLATES / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=b64encode(sha256(script.encode()).digest()).decode(),
    )
    return page.encode("utf-8", errors="replace").decode("utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    named = ("amount", "counted", "cutoff", "decimal", "family", "interval", "listed", "p_value", "percent")
    environment.filters.update({name: getattr(words, name) for name in named})
    environment.filters.update(
        duration=clock,
        sampler_name=words.sampler_name,
        signed=words.signed,
        split_name=words.split_name,
        spread=spread,
        svg=Markup,
        system_name=words.system_name,
    )
    return environment
