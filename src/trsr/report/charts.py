"""The charts of a run's page, as small, deterministic SVG that takes its colours from the page."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from io import StringIO
from typing import Any, Final

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from trsr.evaluation.statistics import Estimate
from trsr.report.measures import Board, Interval, family
from trsr.report.wording import shortened, system_name

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
_WIDTH_INCHES: Final = 3.7
WIDE_INCHES: Final = 7.6
"""Width of a figure that stands alone in its row."""


def new_axes(height_inches: float, width_inches: float = _WIDTH_INCHES) -> tuple[Figure, Axes]:
    """Give an empty figure and its one pair of axes; draw inside `STYLE`."""
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    return figure, figure.add_subplot()


def new_panels(
    columns: int, height_inches: float, width_inches: float = WIDE_INCHES
) -> tuple[Figure, list[Axes]]:
    """Give an empty figure with panels side by side that share their vertical axis; draw inside `STYLE`."""
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    panels = figure.subplots(1, columns, sharey=True, squeeze=False)
    return figure, list(panels[0])


def finish(axes: Axes, x: str, y: str) -> None:
    """Name both axes, draw the grid, and a legend when there is more than one curve to tell apart."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(axis="y")
    axes.tick_params(length=0, pad=5)
    axes.spines["left"].set_visible(False)
    if len(axes.get_legend_handles_labels()[1]) > 1:
        axes.legend(loc="best", handlelength=1.4)


def limits_of(values: Sequence[Estimate]) -> tuple[float, float]:
    """Give the ends of a scale on which all intervals have room; 0 to 1 when there is none."""
    values = [value for value in values if not math.isnan(value.low + value.high)]
    if not values:
        return 0.0, 1.0
    low, high = min(value.low for value in values), max(value.high for value in values)
    margin = 0.04 * (high - low) or 0.01
    return low - margin, high + margin


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


_BINS: Final = 24
_LABEL_CHARS: Final = 20
_SMOOTH_FROM: Final = 40


@rc_context(STYLE)
def intervals(board: Board, kind: str) -> str | None:
    """One family of measures, such as Recall: a dot with its 95% interval per system and cut-off."""
    names = [name for name in board.names if family(name) == kind]
    rows = [(name, row) for name in names for row in board.rows if name in row.values]
    if not rows:
        return None
    figure, axes = new_axes(0.45 + 0.2 * len(rows) + 0.3 * len(names))
    place, ticks = 0.0, []
    for name in names:
        ticks.append((place, name, INK))
        for row in board.rows:
            if name not in row.values:
                continue
            place += 1
            own = row.system == board.system
            _dot(axes, row.values[name], place, own)
            ticks.append((place, shortened(system_name(row.system), _LABEL_CHARS), OWN if own else MUTED))
        place += 1.5
    axes.set_yticks([tick[0] for tick in ticks], [tick[1] for tick in ticks])
    for label, (_, words, colour) in zip(axes.get_yticklabels(), ticks, strict=True):
        label.set_color(colour)
        label.set_fontweight("bold" if words in names else "normal")
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.grid(axis="x")
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_visible(False)
    means = "; ".join(f"{name} {system_name(row.system)} {row.values[name].mean:.3f}" for name, row in rows)
    return to_svg(figure, f"intervals-{kind.lower()}", f"{kind} with 95% intervals", means)


@rc_context(STYLE)
def losses(steps: Sequence[Mapping[str, Any]], epochs: Sequence[Mapping[str, Any]]) -> str | None:
    """Training loss by epoch, and the validation loss after each epoch where it was measured."""
    train = _points(steps, "epoch", "loss")
    valid = _points(epochs, "epoch", "valid_loss")
    if not train and not valid:
        return None
    figure, axes = new_axes(2.5)
    _curve(axes, train, OWN, "training")
    if valid:
        x, y = zip(*valid, strict=True)
        axes.plot(x, y, "D-", color=MARK, markersize=4, linewidth=1.4, label="validation")
    finish(axes, "epoch", "loss")
    return to_svg(figure, "losses", "Loss in fine-tuning", _story("training loss", train, "epoch"))


@rc_context(STYLE)
def recall_by_epoch(epochs: Sequence[Mapping[str, Any]]) -> str | None:
    """Sum of validation Recall after each epoch, by which the best epoch is chosen; the best is marked."""
    points = _points(epochs, "epoch", "valid_recall_sum")
    if not points:
        return None
    figure, axes = new_axes(2.5)
    axes.plot(*zip(*points, strict=True), "o-", color=OWN, markersize=4, linewidth=1.4)
    epoch, best = max(points, key=lambda point: point[1])
    axes.plot([epoch], [best], "o", color=MARK, markersize=9, fillstyle="none", markeredgewidth=1.6)
    axes.annotate(
        f"best {best:.3f}", (epoch, best), (0, 9), textcoords="offset points", ha="center", color=MARK
    )
    axes.margins(x=0.12, y=0.25)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    finish(axes, "epoch", "validation Recall, summed")
    return to_svg(
        figure, "recall", "Validation Recall by epoch", _story("summed validation Recall", points, "epoch")
    )


@rc_context(STYLE)
def pretraining(steps: Sequence[Mapping[str, Any]]) -> str | None:
    """Loss of the compact model's pre-training by step."""
    points = _points(steps, "step", "loss")
    if not points:
        return None
    figure, axes = new_axes(2.5)
    _curve(axes, points, OWN, "pre-training")
    finish(axes, "step", "loss per token")
    return to_svg(figure, "pretraining", "Loss in pre-training", _story("pre-training loss", points, "step"))


@rc_context(STYLE)
def p_yes(targets: Sequence[float], negatives: Sequence[float]) -> str | None:
    """How p(yes) is spread over the targets and over the negatives, each as shares of their own number."""
    if not len(targets) or not len(negatives):
        return None
    figure, axes = new_axes(2.5)
    low, high = min(*targets, *negatives), max(*targets, *negatives)
    low, high = math.floor(low * 10) / 10, max(math.ceil(high * 10) / 10, math.floor(low * 10) / 10 + 0.1)
    edges = np.linspace(low, high, _BINS + 1)
    for values, colour, label in ((negatives, MUTED, "negatives"), (targets, OWN, "targets")):
        shares = np.histogram(values, edges)[0] / len(values)
        axes.stairs(shares, edges, fill=True, color=colour, alpha=0.22)
        axes.stairs(shares, edges, color=colour, linewidth=1.5, label=label)
        axes.axvline(float(np.median(values)), color=colour, linewidth=1, linestyle=(0, (3, 2)))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_ylim(bottom=0)
    finish(axes, "p(yes)", "share of each group")
    words = f"Median p(yes): targets {np.median(targets):.3f}, negatives {np.median(negatives):.3f}."
    return to_svg(figure, "p-yes", "p(yes) of targets and of negatives", words)


@rc_context(STYLE)
def history_lengths(lengths: Sequence[int]) -> str | None:
    """How many users have histories of which length."""
    if not len(lengths):
        return None
    figure, axes = new_axes(2.5)
    low, high = min(lengths), max(lengths)
    width = max(1, math.ceil((high - low + 1) / 40))
    edges = np.arange(low, high + width + 1, width) - 0.5
    counts = np.histogram(lengths, edges)[0]
    axes.bar(edges[:-1] + width / 2, counts, width=width * 0.82, color=OWN, alpha=0.75)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    finish(axes, "items before the target", "users")
    words = f"{len(lengths)} users; {low} to {high} items, median {np.median(lengths):g}."
    return to_svg(figure, "lengths", "History lengths", words)


@rc_context(STYLE)
def target_ranks(ranks: Sequence[float], candidates: int) -> str | None:
    """How often the target stands at which place; dashed: what blind chance would give."""
    if not len(ranks):
        return None
    figure, axes = new_axes(2.5)
    shares = np.histogram(ranks, np.arange(1, candidates + 2) - 0.25)[0] / len(ranks)
    axes.bar(np.arange(1, candidates + 1), shares, width=0.82, color=OWN, alpha=0.75)
    axes.axhline(1 / candidates, color=MARK, linewidth=1.2, linestyle=(0, (3, 2)), label="chance")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xticks(
        [place for place in range(1, candidates + 1) if place == 1 or place % _step(candidates) == 0]
    )
    finish(axes, "place of the target", "share of users")
    axes.legend(loc="upper right")
    median = f"median place {np.median(ranks):g} of {candidates}"
    words = f"First place for {shares[0]:.1%} of {len(ranks)} users; {median}."
    return to_svg(figure, "ranks", "Where the target stands", words)


def _dot(axes: Axes, value: Interval, place: float, own: bool) -> None:
    colour = OWN if own else MUTED
    axes.plot([value.low, value.high], [place, place], color=colour, linewidth=2.4 if own else 1.4)
    axes.plot([value.mean], [place], "o" if own else "D", color=colour, markersize=6 if own else 3.6)


def _step(places: int) -> int:
    """Places between two ticks, so that about five are named."""
    return max(1, 5 * round(places / 25)) if places > 12 else max(1, places // 5)


def _points(rows: Sequence[Mapping[str, Any]], x: str, y: str) -> list[tuple[float, float]]:
    found = ((row.get(x), row.get(y)) for row in rows)
    return [(float(across), float(up)) for across, up in found if across is not None and up is not None]


def _curve(axes: Axes, points: Sequence[tuple[float, float]], colour: str, label: str) -> None:
    """Draw a noisy curve thin and its running mean over it; a short one as it is."""
    if not points:
        return
    x, y = np.asarray(points).T
    if len(points) < _SMOOTH_FROM:
        form = "o-" if len(points) < 3 else "-"
        axes.plot(x, y, form, color=colour, linewidth=1.6, markersize=3, label=label)
        return
    window = max(3, len(points) // 15) | 1
    padded = np.pad(y, window // 2, mode="edge")
    axes.plot(x, y, color=colour, linewidth=0.7, alpha=0.35)
    smooth = np.convolve(padded, np.ones(window) / window, "valid")
    axes.plot(x, smooth, color=colour, linewidth=1.6, label=label)


def _story(what: str, points: Sequence[tuple[float, float]], unit: str) -> str:
    if not points:
        return f"No {what} was logged."
    (start, first), (end, last) = points[0], points[-1]
    return f"{what} {first:.3f} at {unit} {start:g}, {last:.3f} at {unit} {end:g}."
