"""The generated part of docs/performance.md: tables, the plot, the picture of the attention pattern."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from trsr.ranking.shared_prefix.layout import Layout

if TYPE_CHECKING:
    from shared_prefix import Row

BEGIN = "<!-- measured: begin (written by benchmarks/shared_prefix.py) -->"
END = "<!-- measured: end -->"
STYLE = {"svg.hashsalt": "trsr", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
PREFIX, SUFFIX, OWN = "#4c72b0", "#8fb3dd", "#dd8452"

COLUMNS = (
    "model",
    "prefix",
    "suffix",
    "candidates",
    "paper style",
    "good practice",
    "ours",
    "against paper style",
    "against good practice",
    "limit by arithmetic",
    "share of the limit",
    "peak memory, MB: paper, good, ours",
)


def write_page(rows: Sequence[Row], docs: Path, machine: str) -> None:
    """Write the pictures, and the tables between the page's two marks."""
    draw_pattern(docs / "performance-attention.svg")
    draw_speed(rows, docs / "performance-speed.svg")
    page = docs / "performance.md"
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    page.write_text(f"{before}{BEGIN}\n\n{tables(rows, machine)}\n{END}{after}", encoding="utf-8")


def tables(rows: Sequence[Row], machine: str) -> str:
    """Write all rows as Markdown."""
    parts = [f"Measured on {machine}. Seconds a user: wall (CPU).\n"]
    for work, title in (("score", "Scoring"), ("train", "Training, forward and backward, LoRA of rank 8")):
        parts.append(f"**{title}**\n")
        parts.append(f"| {' | '.join(COLUMNS)} |")
        parts.append("|---" * len(COLUMNS) + "|")
        parts.extend(_line(row) for row in rows if row.case.work == work)
        parts.append("")
    return "\n".join(parts)


def _line(row: Row) -> str:
    case, costs = row.case, (row.paper, row.good, row.ours)
    seconds = [f"{cost.wall_s:.3g} ({cost.cpu_s:.3g})" for cost in costs]
    speed = row.good.cpu_s / row.ours.cpu_s
    cells = [
        case.model,
        case.prefix,
        case.suffix,
        case.candidates,
        *seconds,
        f"**{row.paper.cpu_s / row.ours.cpu_s:.1f}x**",
        f"**{speed:.1f}x**",
        f"{row.limit:.1f}x",
        f"{speed / row.limit:.2f}",
        ", ".join(f"{cost.memory_mb:.0f}" for cost in costs),
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def draw_speed(rows: Sequence[Row], path: Path) -> None:
    """Draw how many times faster than good practice each cell is, with the limit by arithmetic."""
    with rc_context(STYLE):
        figure = Figure(figsize=(8, 0.27 * len(rows) + 1), layout="constrained")
        axes = figure.add_subplot()
        names = [_name(row) for row in rows]
        speeds = [row.good.cpu_s / row.ours.cpu_s for row in rows]
        axes.barh(
            names, speeds, color=[PREFIX if row.case.work == "score" else OWN for row in rows], height=0.65
        )
        axes.plot([row.limit for row in rows], names, "|", color="black", markersize=11, markeredgewidth=2)
        for place, speed in enumerate(speeds):
            axes.text(speed, place, f" {speed:.1f}x", va="center", ha="left", fontsize=8)
        axes.invert_yaxis()
        axes.margins(x=0.08, y=0.01)
        axes.set_xlabel("times faster than good practice; the black mark is the limit by arithmetic")
        axes.legend(
            handles=[Patch(color=PREFIX, label="scoring"), Patch(color=OWN, label="training")],
            loc="lower right",
            frameon=False,
        )
        figure.savefig(path, metadata={"Date": None})


def _name(row: Row) -> str:
    case = row.case
    return f"{case.work} {case.model}, {case.prefix} + {case.candidates} x {case.suffix}"


def draw_pattern(path: Path) -> None:
    """Draw who sees whom in a packed row of one user with three candidates."""
    layout = Layout.of([(7, (3, 2, 4))], torch.device("cpu"))
    segment = layout.segments[0]
    runs = [-1] * segment.prefix
    for run, length in enumerate(segment.fold.lengths):
        runs.extend([run] * length)
    with rc_context(STYLE):
        figure = Figure(figsize=(5.6, 5.2), layout="constrained")
        axes = figure.add_subplot()
        for query, query_run in enumerate(runs):
            for key, key_run in enumerate(runs[: query + 1]):
                if key_run in (-1, query_run):
                    color = OWN if key_run >= 0 else PREFIX if query_run < 0 else SUFFIX
                    axes.add_patch(Rectangle((key + 0.05, query + 0.05), 0.9, 0.9, color=color))
        for place in layout.answers.tolist():
            axes.text(layout.tokens + 0.3, place + 0.5, "answer", va="center", fontsize=8)
        labels = [str(position) for position in layout.positions.tolist()]
        middle = [place + 0.5 for place in range(layout.tokens)]
        axes.set(xlim=(0, layout.tokens + 2.4), ylim=(layout.tokens, 0), aspect="equal")
        axes.set_xticks(middle, labels)
        axes.set_yticks(middle, labels)
        axes.set_xlabel("key, by position in its prompt")
        axes.set_ylabel("query, by position in its prompt")
        handles = [
            Patch(color=PREFIX, label="prefix on itself: one causal call"),
            Patch(color=SUFFIX, label="all candidates on the prefix: one full call"),
            Patch(color=OWN, label="each candidate on itself: one causal call for all"),
        ]
        axes.legend(handles=handles, loc="upper right", frameon=False)
        figure.savefig(path, metadata={"Date": None})
