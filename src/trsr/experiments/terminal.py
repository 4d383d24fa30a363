"""The table of a comparison as aligned text, one block for each kind of candidates."""

from __future__ import annotations

from collections.abc import Sequence

from trsr.experiments.publish import blocks
from trsr.progress import clock
from trsr.report.comparison.content import ComparisonContent
from trsr.report.comparison.standings import Standing, System

_NONE = "-"


def render_text(content: ComparisonContent) -> str:
    """Write all tables, each by falling primary measure, with 95% intervals of that measure.

    Parameters
    ----------
    content
        The comparison.
    """
    systems = {system.name: system for system in content.systems}
    parts = []
    for name, standings in blocks(content):
        ranked = sorted(standings, key=lambda row: -row.metrics[content.measure].mean)
        lines = [_row(row, systems[row.system], content, name) for row in ranked]
        parts.append("\n".join([_title(name, content), *_aligned([_head(content, name), *lines])]))
    chosen = "\n".join(
        f"  {choice.what}: {choice.chosen} (by {choice.measure})" for choice in content.provenance.choices
    )
    notes = dict.fromkeys(table.note for table in content.tables if table.note)
    if notes:
        parts.append("\n".join(["Notes", *(f"  {note}" for note in notes)]))
    if chosen:
        parts.append(f"Chosen on validation users\n{chosen}")
    return "\n" + "\n\n".join(parts)


def _title(name: str, content: ComparisonContent) -> str:
    users = content.provenance.users.get("test", 0)
    if name == "catalogue":
        what = f"whole catalogue, {content.items:,} items"
    elif content.two_stage is not None and name == "two-stage":
        two = content.two_stage
        what = (
            f"two stages: {two.retrieved} items of {two.retriever}, ordered by each system; the target is "
            f"among them for {two.ceiling.mean:.1%}"
        )
    else:
        table = next(table for table in content.tables if table.sampler == name)
        what = f"{table.candidates - 1} {name} negatives"
    return f"{users:,} test users, {what}"


def _columns(content: ComparisonContent) -> list[str]:
    measures = list(content.tables[0].standings[0].metrics)
    first, last = measures[0], content.measure
    return [first, *(["Recall@10"] if "Recall@10" in measures else []), last, "AUC"]


def _head(content: ComparisonContent, name: str) -> list[str]:
    wanted = [measure for measure in _columns(content) if not (name == "two-stage" and measure == "AUC")]
    exact = [f"{content.measure} expected"] if name == "uniform" else []
    return [
        *("system", *wanted, f"95% of {content.measure}", "sd seeds", "p vs best", *exact),
        *("ties", "examples", "seconds", "training negatives"),
    ]


def _row(row: Standing, system: System, content: ComparisonContent, name: str) -> list[str]:
    wanted = [measure for measure in _columns(content) if not (name == "two-stage" and measure == "AUC")]
    main = row.metrics[content.measure]
    spread = row.by_seed.get(content.measure, ())
    p = row.p_against_best.get(content.measure)
    exact = row.exact.get(content.measure)
    return [
        system.name,
        *(f"{row.metrics[measure].mean:.3f}" if measure in row.metrics else _NONE for measure in wanted),
        f"{main.low:.3f} to {main.high:.3f}",
        _sd(spread),
        "best" if p is None else ("<.001" if p < 0.001 else f"{p:.3f}"),
        *([_NONE if exact is None else f"{exact:.3f}"] if name == "uniform" else []),
        _NONE if row.tie_rate is None else f"{row.tie_rate:.0%}",
        _NONE if system.training_examples is None else f"{system.training_examples:,}",
        _NONE if system.seconds is None else clock(system.seconds),
        system.training_negatives or _NONE,
    ]


def _sd(means: Sequence[float]) -> str:
    if len(means) < 2:
        return _NONE
    centre = sum(means) / len(means)
    return f"{(sum((mean - centre) ** 2 for mean in means) / (len(means) - 1)) ** 0.5:.3f}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Pad columns: the first and the last to the left, numbers to the right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    last = len(widths) - 1
    return [
        "  ".join(
            cell.ljust(width) if place in (0, last) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
