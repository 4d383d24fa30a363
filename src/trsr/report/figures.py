"""The figures of a run's page: what the charts count, the bill, captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import polars as pl

from trsr.records import CANDIDATES, HISTORY, ITEM, P_YES, SPLIT, TARGET, USER, Split
from trsr.report import charts
from trsr.report.content import BillLine, ReportContent
from trsr.report.measures import Board
from trsr.report.wording import split_name

_IS_TARGET: Final = pl.col(ITEM) == pl.col(TARGET)


def split_p_yes(
    scores: pl.DataFrame, candidates: pl.DataFrame, split: str
) -> tuple[Sequence[float], Sequence[float]]:
    """Give p(yes) of one split's targets, and of its negatives, in ascending order."""
    joined = _scored(scores, candidates, split)
    return (
        joined.filter(_IS_TARGET)[P_YES].sort().to_list(),
        joined.filter(~_IS_TARGET)[P_YES].sort().to_list(),
    )


def split_ranks(scores: pl.DataFrame, candidates: pl.DataFrame, split: str) -> tuple[Sequence[float], int]:
    """Give the targets' expected ranks in ascending order, and the largest number of candidates of a user."""
    ranked = _scored(scores, candidates, split).with_columns(
        pl.col(P_YES).rank("average", descending=True).over(USER).alias("rank"),
        pl.len().over(USER).alias("total"),
    )
    targets = ranked.filter(_IS_TARGET)
    return targets["rank"].sort().to_list(), max(targets["total"].to_list(), default=0)


def lengths_of(histories: pl.DataFrame) -> Sequence[int]:
    """Give the length of every user's history, in ascending order."""
    return histories[HISTORY].list.len().sort().to_list()


def _scored(scores: pl.DataFrame, candidates: pl.DataFrame, split: str) -> pl.DataFrame:
    frozen = (
        candidates.filter(pl.col(SPLIT) == split)
        .select(USER, TARGET, pl.col(CANDIDATES).alias(ITEM))
        .explode(ITEM)
    )
    return scores.select(USER, ITEM, P_YES).unique([USER, ITEM]).join(frozen, on=[USER, ITEM])


_ORDER: Final = ("calls", "calls_reused", "prompt_tokens", "completion_tokens", "money", "seconds")
_WORDS: Final = {
    "calls_reused": "calls answered from the store",
    "calls_unreported": "calls without a whole usage report, counted as reserved",
}


def bill_lines(bill: Mapping[str, Any]) -> tuple[BillLine, ...]:
    """Read the content of ``bill.json``: every figure of either side once, in the order of reading.

    ``{"planned": {"calls": 10, ..., "currency": "USD"}, "actual": {"calls": 9, ...}, "earlier": [...]}``:
    sides and figures may be absent, and what is no number is left out. Commands that paid before this
    one on the same run folder are counted in a line of their own. Empty when no call was planned and none
    made.

    Examples
    --------
    >>> bill_lines({"planned": {"calls": 10, "prompt_tokens": 900}, "actual": {"calls": 9}})[1]
    BillLine(name='prompt tokens', planned=900.0, actual=None)
    """
    planned, actual = (_figures(bill.get(side)) for side in ("planned", "actual"))
    both = planned | actual
    if not any(side.get(name) for side in (planned, actual) for name in ("calls", "calls_reused")):
        return ()
    currency = (bill.get("planned") or bill.get("actual") or {}).get("currency")
    is_estimate = any(side.get("calls_unreported") for side in (planned, actual))
    if not is_estimate:
        both.pop("calls_unreported", None)
    names = [name for name in _ORDER if name in both] + [name for name in both if name not in _ORDER]
    lines = [
        BillLine(_WORDS.get(name, name.replace("_", " ")), planned.get(name), actual.get(name))
        for name in names
    ]
    if currency:
        money = f"money ({currency}{', estimated' if is_estimate else ''})"
        lines = [replace(one, name=money) if one.name == "money" else one for one in lines]
    earlier = bill.get("earlier")
    return (*lines, BillLine("earlier commands", None, float(len(earlier)))) if earlier else tuple(lines)


def _figures(side: Any) -> dict[str, float]:
    if not isinstance(side, Mapping):
        return {}
    return {
        str(name): float(value)
        for name, value in side.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


@dataclass(frozen=True, slots=True)
class Figure:
    """One plot with its words; `caption` says how to read it.

    Where there is nothing to draw, `svg` is empty and `missing` stands in its place.
    """

    title: str
    caption: str
    svg: str
    missing: str


def metric_figures(board: Board) -> tuple[Figure, ...]:
    """One figure per family of measures of one split."""
    caption = f"{split_name(board.split)}. Dot: mean over users; line: 95% interval; @k: first k places."
    return tuple(
        Figure(kind, caption, charts.intervals(board, kind) or "", f"{kind} was not measured.")
        for kind in board.families
    )


def training_figures(content: ReportContent) -> tuple[Figure, ...]:
    """Losses and validation measures over time."""
    log = content.log
    return (
        Figure(
            "Fine-tuning loss",
            "Cross-entropy of yes or no. Falling in training but rising in validation means overfitting.",
            charts.losses(log.steps, log.epochs) or "",
            "No training log: this run was not fine-tuned here.",
        ),
        Figure(
            "Choice of the epoch",
            "Validation Recall, summed over its cut-offs, after each epoch. The best epoch is circled.",
            charts.recall_by_epoch(log.epochs) or "",
            "No validation Recall was logged during training.",
        ),
        Figure(
            "Pre-training loss",
            "The built-in compact model learns to continue item texts and training histories first.",
            charts.pretraining(log.pretraining) or "",
            "No pre-training in this run: the model came with its weights, or started from random ones.",
        ),
    )


def data_figures(content: ReportContent, boards: Sequence[Board]) -> tuple[Figure, ...]:
    """Figures of the scores and of the histories."""
    split = boards[0].split if boards else Split.TEST
    targets, negatives = split_p_yes(content.scores, content.candidates, split)
    ranks, total = split_ranks(content.scores, content.candidates, split)
    unscored = "No scores with frozen candidates are at hand for this split."
    return (
        Figure(
            "p(yes) of targets and negatives",
            f"{split_name(split)}. Dashed: medians. The further apart, the better the ranking.",
            charts.p_yes(targets, negatives) or "",
            unscored,
        ),
        Figure(
            "Where the target stands",
            f"{split_name(split)}. The more at the left, the better; ties take their expected place.",
            charts.target_ranks(ranks, total) or "",
            unscored,
        ),
        Figure(
            "History lengths",
            "Items known about a user before the target, over all splits.",
            charts.history_lengths(lengths_of(content.histories)) or "",
            "No histories are at hand.",
        ),
    )
