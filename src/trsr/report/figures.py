"""Which plots the page shows, with their captions, and the sentence that stands where one can't be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trsr.records import Split
from trsr.report import outcomes, plots
from trsr.report.content import ReportContent
from trsr.report.measures import Board
from trsr.report.wording import split_name


@dataclass(frozen=True, slots=True)
class Figure:
    """One plot with its words.

    Parameters
    ----------
    title, caption
        What it shows, and how to read it.
    svg
        The SVG element; empty when there is nothing to draw.
    missing
        What stands in its place then.
    """

    title: str
    caption: str
    svg: str
    missing: str


def metric_figures(board: Board) -> tuple[Figure, ...]:
    """One figure per family of measures of one split."""
    caption = f"{split_name(board.split)}. Dot: mean over users; line: 95% interval; @k: first k places."
    return tuple(
        Figure(kind, caption, plots.intervals(board, kind) or "", f"{kind} was not measured.")
        for kind in board.families
    )


def training_figures(content: ReportContent) -> tuple[Figure, ...]:
    """Losses and validation measures over time."""
    log = content.log
    return (
        Figure(
            "Fine-tuning loss",
            "Cross-entropy of yes or no. Falling in training but rising in validation means overfitting.",
            plots.losses(log.steps, log.epochs) or "",
            "No training log: this run was not fine-tuned here.",
        ),
        Figure(
            "Choice of the epoch",
            "Validation Recall, summed over its cut-offs, after each epoch. The best epoch is circled.",
            plots.recall_by_epoch(log.epochs) or "",
            "No validation Recall was logged during training.",
        ),
        Figure(
            "Pre-training loss",
            "The built-in compact model learns to continue item texts and training histories first.",
            plots.pretraining(log.pretraining) or "",
            "No pre-training in this run: the model came with its weights, or started from random ones.",
        ),
    )


def data_figures(content: ReportContent, boards: Sequence[Board]) -> tuple[Figure, ...]:
    """Figures of the scores and of the histories."""
    split = boards[0].split if boards else Split.TEST
    targets, negatives = outcomes.split_p_yes(content.scores, content.candidates, split)
    ranks, total = outcomes.split_ranks(content.scores, content.candidates, split)
    unscored = "No scores with frozen candidates are at hand for this split."
    return (
        Figure(
            "p(yes) of targets and negatives",
            f"{split_name(split)}. Dashed: medians. The further apart, the better the ranking.",
            plots.p_yes(targets, negatives) or "",
            unscored,
        ),
        Figure(
            "Where the target stands",
            f"{split_name(split)}. The more at the left, the better; ties take their expected place.",
            plots.target_ranks(ranks, total) or "",
            unscored,
        ),
        Figure(
            "History lengths",
            "Items known about a user before the target, over all splits.",
            plots.history_lengths(outcomes.lengths_of(content.histories)) or "",
            "No histories are at hand.",
        ),
    )
