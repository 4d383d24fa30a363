"""A drawing becomes small, deterministic SVG inside a page, in the page's own colours and letters."""

from __future__ import annotations

import re
from html import escape
from io import StringIO
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.figure import Figure

INK: Final = "#010101"
MUTED: Final = "#010102"
LINE: Final = "#010103"
OWN: Final = "#010104"
MARK: Final = "#010105"
"""Stand-ins that matplotlib can draw with; `to_svg` replaces them by the page's variables."""


_VARIABLES: Final = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    OWN: "var(--own)",
    MARK: "var(--mark)",
}
STYLE: Final[Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "trsr",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "legend.labelcolor": INK,
}


def figure_id(kind: str, name: str) -> str:
    """Make a name that may stand in an id; unknown signs become their code, so that no two names meet.

    Examples
    --------
    >>> figure_id("slice", "cold items")
    'slice-cold_20items'
    """
    return f"{kind}-" + re.sub(r"[^A-Za-z0-9]", lambda sign: f"_{ord(sign[0]):x}", name)


def to_svg(figure: Figure, name: str, title: str, description: str) -> str:
    """Write a figure as an SVG element for use inside a page.

    The figure is drawn with the stand-in colours of this module. `name` is unique within the page: ids are
    made of it. A screen reader says `title` and `description`, which are escaped here.
    """
    stream = StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with rc_context(STYLE):
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    text = stream.getvalue()
    text = text[text.index("<svg") :].strip()
    text = _own_ids(_clean(text), name)
    for stand_in, variable in _VARIABLES.items():
        text = text.replace(stand_in, variable)
    return _with_head(text, name, title, description)


def _clean(text: str) -> str:
    """Drop what a page doesn't need: comments, metadata, global styles, the font of the layout."""
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"<(metadata|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    text = text.replace("xlink:href", "href")
    # Matplotlib before 3.11 writes one `font:` where later ones write `font-size:` and `font-family:`.
    text = re.sub(r'(style="[^"]*)font: (?:(\d+) )?([\d.]+px) [^;"]*', _split_font, text)
    text = re.sub(r'(style="[^"]*?)font-family: [^;"]*;? ?', r"\1", text)
    text = re.sub(r' transform="rotate\(-?0 [^"]*"', "", text)
    return re.sub(r"\n\s*", "\n", text)


def _split_font(match: re.Match[str]) -> str:
    weight = f"; font-weight: {match[2]}" if match[2] else ""
    return f"{match[1]}font-size: {match[3]}{weight}"


def _own_ids(text: str, name: str) -> str:
    """Keep the ids that are referred to, under the figure's name, so that figures on one page don't clash."""
    used = set(re.findall(r'(?:url\(|href=")#([\w-]+)', text))

    def renamed(match: re.Match[str]) -> str:
        return f' id="{name}-{match[1]}"' if match[1] in used else ""

    text = re.sub(r' id="([\w.-]+)"', renamed, text)
    return re.sub(r'(url\(|href=")#([\w-]+)', rf"\g<1>#{name}-\2", text)


def _with_head(text: str, name: str, title: str, description: str) -> str:
    box = re.search(r'viewBox="[\d. ]+"', text)
    assert box is not None
    head = (
        f'<svg {box[0]} role="img" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-desc">{escape(description)}</desc>'
    )
    return head + text[text.index(">") + 1 :]
