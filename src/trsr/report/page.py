"""A run's page: its first sentences, and all sections put together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from trsr.records import Split
from trsr.report.comparison.page import reliability_figures, weight_list
from trsr.report.comparison.results import Kind, Roster, System
from trsr.report.content import ReportContent, UserCard
from trsr.report.document import document
from trsr.report.figures import data_figures, metric_figures, training_figures
from trsr.report.measures import Board, Interval, Row, Verdict, boards, cutoff, family, overall
from trsr.report.wording import counted, inside, listed, percent, system_name, task


@dataclass(frozen=True, slots=True)
class Bar:
    """One system's share of users whose target was near the top."""

    label: str
    value: Interval
    is_own: bool
    is_fused: bool = False


@dataclass(frozen=True, slots=True)
class Headline:
    """The first screen of the page.

    `verdict` is how the language model stands to the floor as a whole; None when nothing can be compared. The
    title gives the result in one sentence, which rests on `sentences`; `task` says what was ranked for whom.
    `bars` show every system by the measure that the title speaks of, such as ``Recall@3``.
    """

    verdict: Verdict | None
    title: str
    task: str
    sentences: tuple[str, ...]
    measure: str
    bars: tuple[Bar, ...]


def headline(content: ReportContent, boards: Sequence[Board]) -> Headline:
    """Say how the language model did against the floor.

    The title speaks of Recall at the smallest cut-off, the measure that needs no
    explanation; "clearly" means that 95% intervals don't overlap. The other
    measures are counted in a sentence, so that the title can't be a lucky pick.
    """
    board = next((board for board in boards if board.own and board.own.users and board.own.values), None)
    if board is None or board.own is None:
        return Headline(None, "Nothing has been measured yet", "", (), "", ())
    measure = _measure(board)
    own, floor = board.own, [row for row in board.floor if measure in row.values]
    verdict = overall(own.values[measure], [row.values[measure] for row in floor]) if floor else None
    bars = tuple(
        Bar(system_name(row.system), row.values[measure], row is own, row is board.joined)
        for row in board.rows
        if measure in row.values
    )
    return Headline(
        verdict,
        _title(own.values[measure], floor, measure),
        _task(content, board),
        tuple(_sentences(content, board, measure)),
        measure,
        bars,
    )


def _measure(board: Board) -> str:
    assert board.own is not None
    names = [name for name in board.names if name in board.own.values]
    recalls = [name for name in names if family(name) == "Recall"]
    return min(recalls or names, key=cutoff)


def _title(own: Interval, floor: Sequence[Row], measure: str) -> str:
    groups: dict[Verdict, list[str]] = {verdict: [] for verdict in Verdict}
    for row in floor:
        groups[own.against(row.values[measure])].append(inside(row.system))
    if not floor:
        return "The language model was measured without a baseline to compare it with"
    if groups[Verdict.BELOW]:
        return f"The language model ranks clearly worse than {listed(groups[Verdict.BELOW])}"
    if not groups[Verdict.UNCLEAR]:
        many = "every baseline" if len(floor) > 1 else listed(groups[Verdict.ABOVE])
        return f"The language model ranks clearly better than {many}"
    title = f"The language model can’t be told apart from {listed(groups[Verdict.UNCLEAR])}"
    beaten = groups[Verdict.ABOVE]
    return f"{title}, but is clearly better than {listed(beaten)}" if beaten else title


def _task(content: ReportContent, board: Board) -> str:
    assert board.own is not None
    metrics = content.metrics
    return task(
        content.domain,
        content.catalogue,
        str(metrics["sampler"]),
        int(metrics["negatives"]),
        board.split,
        board.own.users,
    )


def _sentences(content: ReportContent, board: Board, measure: str) -> list[str]:
    assert board.own is not None
    own = board.own.values[measure]
    sentences = [_own_result(content, own, measure)]
    floor = [row for row in board.floor if measure in row.values]
    if floor:
        best = max(floor, key=lambda row: row.values[measure].mean)
        value = best.values[measure]
        sentences.append(
            f"The strongest baseline in this, {inside(best.system)}, reached {percent(value.mean)} "
            f"({percent(value.low)} to {percent(value.high)})."
        )
        sentences.append(_all_measures(board))
    if board.joined and measure in board.joined.values:
        sentences.append(_joined_result(board, measure))
    if board.split != Split.TEST:
        sentences.append("No test users were measured: these numbers may flatter whatever was tuned on them.")
    return sentences


def _own_result(content: ReportContent, own: Interval, measure: str) -> str:
    name = system_name(content.system)
    interval = f"95% interval {percent(own.low)} to {percent(own.high)}"
    if family(measure) != "Recall":
        return f"{name} reached {own.mean:.3f} in {measure} ({own.low:.3f} to {own.high:.3f})."
    k, total = cutoff(measure), int(content.metrics["negatives"]) + 1
    return (
        f"{name} put the hidden one among its first {k} for {percent(own.mean)} of users ({interval}); "
        f"blind chance would for {percent(min(1.0, k / total))}."
    )


def _joined_result(board: Board, measure: str) -> str:
    assert board.own is not None
    assert board.joined is not None
    value = board.joined.values[measure]
    others = [row.values[measure] for row in (board.own, *board.floor) if measure in row.values]
    stand = {
        Verdict.ABOVE: "clearly above the language model alone and every baseline",
        Verdict.BELOW: "clearly below at least one of them alone",
        Verdict.UNCLEAR: "not clearly above each of them alone",
    }[overall(value, others)]
    return (
        f"Joined with other systems, the fused ranker reached {percent(value.mean)} "
        f"({percent(value.low)} to {percent(value.high)}): {stand}."
    )


def _all_measures(board: Board) -> str:
    assert board.own is not None
    counts = dict.fromkeys(Verdict, 0)
    for name, own in board.own.values.items():
        others = [row.values[name] for row in board.floor if name in row.values]
        if others:
            counts[overall(own, others)] += 1
    total = counted(sum(counts.values()), "measure")
    return (
        f"Over all {total} of the table it is clearly above every baseline in {counts[Verdict.ABOVE]}, "
        f"clearly below at least one in {counts[Verdict.BELOW]}, and undecided in {counts[Verdict.UNCLEAR]}. "
        "“Clearly” means that the 95% intervals don’t overlap."
    )


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
