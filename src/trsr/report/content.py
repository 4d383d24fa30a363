"""What a report shows: plain records and frames, gathered by the stage that writes the page.

Nothing here reads a file or a clock, so that a page can be made of any run, of a
test's numbers, or of several runs' parts. Every text is shown as text: item
titles, summaries and ids are escaped by the page, never trusted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from trsr.records import CANDIDATES, HISTORY, ITEM, P_YES, SPLIT, TARGET, USER, Finding, Usage
from trsr.report.insights import Calibration, Fusion


@dataclass(frozen=True, slots=True)
class RankedLine:
    """One candidate of a user, as a line of text with its probability."""

    text: str
    p_yes: float
    is_target: bool = False


@dataclass(frozen=True, slots=True)
class UserCard:
    """One user in full: what was known, what was written, what was ranked.

    Parameters
    ----------
    history
        One line per item before the target, oldest first.
    steps
        Intermediate summaries in the order in which they were written; empty when
        there are none.
    summary
        The final summary; empty for paradigm ``none``.
    ranked
        Candidates in falling order of p(yes).
    rank
        The target's expected rank, counted from 1; ties give halves.
    """

    user_id: str
    history: tuple[str, ...]
    steps: tuple[str, ...]
    summary: str
    ranked: tuple[RankedLine, ...]
    rank: float


@dataclass(frozen=True, slots=True)
class TrainingLog:
    """Losses as they were logged; empty where a run had no such phase.

    Parameters
    ----------
    steps
        Fine-tuning rows ``{"step": 10, "epoch": 0.4, "loss": 0.61}``.
    epochs
        Rows per epoch ``{"epoch": 1, "valid_loss": 0.55, "valid_recall_sum": 1.32}``;
        either measurement may be absent or None.
    pretraining
        Pre-training rows ``{"step": 10, "loss": 4.2}``.
    """

    steps: tuple[Mapping[str, Any], ...] = ()
    epochs: tuple[Mapping[str, Any], ...] = ()
    pretraining: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """A user whose summary could not be written, and why."""

    user_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class BillLine:
    """One figure of the bill of model calls, such as ``prompt tokens``; None where it isn't known.

    Planned is what was expected before the first call, actual what it came to.
    """

    name: str
    planned: float | None
    actual: float | None


@dataclass(frozen=True, slots=True)
class RunCard:
    """Where a run comes from, so that somebody else can repeat it.

    Parameters
    ----------
    config
        The resolved configuration as YAML.
    versions
        Package (or ``python``, ``platform``, ``trsr``) to version.
    seeds
        What is seeded to its seed.
    hashes
        Artifact or input file to its SHA-256.
    seconds
        Stage to wall time, in the order in which the stages ran.
    usage
        The sum of all summaries' calls and tokens.
    paradigm
        ``recurrent``, ``hierarchical`` or ``none``.
    writer
        What wrote the summaries, as its `name` says; empty for paradigm ``none``.
    """

    config: str
    versions: Mapping[str, str] = field(default_factory=dict)
    seeds: Mapping[str, int] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    usage: Usage = field(default=Usage())
    paradigm: str = "none"
    writer: str = ""


_SCORES: Final = pl.Schema({USER: pl.String(), SPLIT: pl.String(), ITEM: pl.String(), P_YES: pl.Float64()})
_CANDIDATES: Final = pl.Schema(
    {USER: pl.String(), SPLIT: pl.String(), TARGET: pl.String(), CANDIDATES: pl.List(pl.String())}
)
_HISTORIES: Final = pl.Schema(
    {USER: pl.String(), SPLIT: pl.String(), HISTORY: pl.List(pl.String()), TARGET: pl.String()}
)


@dataclass(frozen=True, slots=True)
class ReportContent:
    """Everything that one page shows.

    Parameters
    ----------
    system
        The name, in `metrics`, of the language model's system; all others are the floor.
    metrics
        The content of ``metrics.json``: ``{"sampler": "uniform", "negatives": 20,
        "systems": {name: {split: {"users": 100, "tie_rate": 0.0, "metrics":
        {"Recall@3": {"mean": 0.4, "low": 0.3, "high": 0.5}, ...}}}}}``.
    domain
        What is ranked: ``shopping``, ``news``, ``video`` or ``generic``.
    catalogue
        Number of items; None when it isn't known.
    scores
        Columns `USER`, `ITEM`, `P_YES` and, when at hand, `SPLIT`.
    candidates
        Columns `USER`, `SPLIT`, `TARGET`, `CANDIDATES`.
    histories
        Columns `USER`, `SPLIT`, `HISTORY`, `TARGET`; the history without the target.
    fused
        The name, in `metrics`, of the fused ranker's system; empty without one.
    calibration
        Of the language model's p(yes), and of the fused ranker, on test users.
    failures
        Users whose summaries could not be written; they were ranked from their recent items alone.
    bill
        Planned and actual cost of the summaries; empty when none was kept.
    """

    name: str
    system: str
    metrics: Mapping[str, Any]
    run: RunCard
    domain: str = "generic"
    catalogue: int | None = None
    log: TrainingLog = field(default=TrainingLog())
    scores: pl.DataFrame = field(default_factory=_SCORES.to_frame)
    candidates: pl.DataFrame = field(default_factory=_CANDIDATES.to_frame)
    histories: pl.DataFrame = field(default_factory=_HISTORIES.to_frame)
    cards: tuple[UserCard, ...] = ()
    findings: tuple[Finding, ...] = ()
    fused: str = ""
    fusion: Fusion | None = None
    calibration: tuple[Calibration, ...] = ()
    failures: tuple[Failure, ...] = ()
    bill: tuple[BillLine, ...] = ()
