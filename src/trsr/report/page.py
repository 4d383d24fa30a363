"""A page is a list of sections, rendered by one template; and what only the page of a run shows."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import polars as pl
from jinja2 import Environment
from markupsafe import Markup

from trsr.progress import clock
from trsr.records import CANDIDATES, HISTORY, ITEM, P_YES, SPLIT, TARGET, USER, Finding, Usage
from trsr.report import charts, words
from trsr.report.ablation import ABLATION, AblationContent
from trsr.report.bill import BillLine
from trsr.report.results import Results, spread
from trsr.report.sections import (
    AGREEMENT,
    CATALOGUE,
    COMPARISON,
    PICTURES,
    PROBABILITIES,
    PROVENANCE,
    RESULT,
    TABLES,
    USERS,
    Figure,
    Section,
)
from trsr.report.study import STUDY, StudyContent
from trsr.report.words import split_name


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


_SCORES: Final = pl.Schema({USER: pl.String(), ITEM: pl.String(), P_YES: pl.Float64()})
_CANDIDATES: Final = pl.Schema(
    {USER: pl.String(), SPLIT: pl.String(), TARGET: pl.String(), CANDIDATES: pl.List(pl.String())}
)
_HISTORIES: Final = pl.Schema({USER: pl.String(), HISTORY: pl.List(pl.String())})


@dataclass(frozen=True, slots=True)
class RunContent:
    """Everything that the page of a run shows.

    Parameters
    ----------
    paradigm
        ``recurrent``, ``hierarchical``, ``sections`` or ``none``.
    writer
        What wrote the summaries; empty for paradigm ``none``.
    usage
        The sum of all summaries' calls and tokens.
    seconds
        Stage to wall time, in the order in which the stages ran.
    scores, candidates, histories
        The language model's p(yes), the frozen candidates, and what is known of every user, as the run
        folder holds them.
    failures
        User to why the summary could not be written; they were ranked from their recent items alone.
    bill
        Planned and actual cost of the summaries; empty when none was kept.
    """

    results: Results
    paradigm: str = "none"
    writer: str = ""
    usage: Usage = field(default=Usage())
    seconds: Mapping[str, float] = field(default_factory=dict)
    log: TrainingLog = field(default=TrainingLog())
    scores: pl.DataFrame = field(default_factory=_SCORES.to_frame)
    candidates: pl.DataFrame = field(default_factory=_CANDIDATES.to_frame)
    histories: pl.DataFrame = field(default_factory=_HISTORIES.to_frame)
    findings: tuple[Finding, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)
    bill: tuple[BillLine, ...] = ()


def split_scores(
    scores: pl.DataFrame, candidates: pl.DataFrame, split: str
) -> tuple[Sequence[float], Sequence[float], Sequence[float], int]:
    """Give p(yes) of one split's targets and of its negatives, and the targets' expected ranks, each rising.

    The number is the largest number of candidates of a user.
    """
    frozen = candidates.filter(pl.col(SPLIT) == split)
    pairs = (
        frozen.select(USER, TARGET, pl.col(CANDIDATES).alias(ITEM))
        .explode(ITEM)
        .join(scores.select(USER, ITEM, P_YES).unique([USER, ITEM]), on=[USER, ITEM])
        .with_columns(
            rank=pl.col(P_YES).rank("average", descending=True).over(USER), total=pl.len().over(USER)
        )
        .sort(P_YES)
    )
    is_target = pl.col(ITEM) == pl.col(TARGET)
    targets = pairs.filter(is_target)
    return (
        targets[P_YES].to_list(),
        pairs.filter(~is_target)[P_YES].to_list(),
        targets["rank"].sort().to_list(),
        max(targets["total"].to_list(), default=0),
    )


def training(content: RunContent) -> dict[str, Any]:
    """Draw losses and validation measures over time, then the scores and the histories."""
    log, tables = content.log, content.results.tables
    split = tables[0].split if tables else "test"
    targets, negatives, ranks, total = split_scores(content.scores, content.candidates, split)
    lengths = content.histories[HISTORY].list.len().sort().to_list()
    who, unscored = split_name(split), "No scores with frozen candidates are at hand for this split."
    fine_tuning = {"training loss": (log.steps, "loss"), "validation loss": (log.epochs, "valid_loss")}
    learned = (
        Figure(
            "Fine-tuning loss",
            "Cross-entropy of yes or no. Falling in training but rising in validation means overfitting.",
            charts.curves("losses", "Loss in fine-tuning", "epoch", "loss", fine_tuning),
            "No training log: this run was not fine-tuned here.",
        ),
        Figure(
            "Choice of the epoch",
            "Validation Recall, summed over its cut-offs, after each epoch. The best epoch is circled.",
            charts.recall_by_epoch(log.epochs),
            "No validation Recall was logged during training.",
        ),
        Figure(
            "Pre-training loss",
            "The built-in compact model learns to continue item texts and training histories first.",
            charts.curves(
                "pretraining",
                "Loss in pre-training",
                "step",
                "loss per token",
                {"pre-training loss": (log.pretraining, "loss")},
            ),
            "No pre-training in this run: the model came with its weights, or started from random ones.",
        ),
    )
    worked_on = (
        Figure(
            "p(yes) of targets and negatives",
            f"{who}. Dashed: medians. The further apart, the better the ranking.",
            charts.p_yes(targets, negatives),
            unscored,
        ),
        Figure(
            "Where the target stands",
            f"{who}. The more at the left, the better; ties take their expected place.",
            charts.target_ranks(ranks, total),
            unscored,
        ),
        Figure(
            "History lengths",
            "Items known about a user before the target, over all splits.",
            charts.history_lengths(lengths),
            "No histories are at hand.",
        ),
    )
    return {"learned": learned, "worked_on": worked_on}


def _result(content: RunContent) -> dict[str, Any]:
    table = content.results.tables[0] if content.results.tables else None
    facts = {
        split_name(table.split) if table else "": f"{max(row.users for row in table.rows):,}"
        if table
        else "",
        "Candidates each": str(table.candidates) if table else "",
        "Summaries": content.paradigm,
        "Summary calls": f"{content.usage.calls:,}",
    }
    return {"facts": {name: fact for name, fact in facts.items() if fact}}


def _of_results(section: Section, applies: Callable[[Results], Any] = lambda results: True) -> Section:
    """Take a section of results into the run's page, where there is anything to show."""
    return replace(
        section,
        context=lambda content: section.context(content.results),
        applies=lambda content: bool(applies(content.results)),
    )


_RUN = "run.html.jinja"
RUN = (
    replace(RESULT, context=lambda content: RESULT.context(content.results) | _result(content)),
    _of_results(TABLES),
    _of_results(PICTURES),
    Section("training", "Training", "How it learned", _RUN, training),
    _of_results(CATALOGUE, lambda results: results.catalogue),
    _of_results(PROBABILITIES, lambda results: results.calibration or results.fusion),
    _of_results(AGREEMENT, lambda results: results.agreement),
    _of_results(USERS),
    Section("data", "Data", "What was found in the data", _RUN),
    Section("cost", "Cost", "What it cost", _RUN),
    _of_results(PROVENANCE),
)


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
    StudyContent: _Kind("study", "Study of summaries", STUDY),
}


def render(content: RunContent | Results | AblationContent | StudyContent) -> str:
    """Make a page of its sections as a whole HTML document, to be written as UTF-8.

    The page needs no network: styles, script and figures are inside it, and its own security policy forbids
    everything else. Every text in the content is escaped, and the same content gives the same bytes.
    """
    environment, kind = _environment(), _KINDS[type(content)]
    results = content.results if isinstance(content, RunContent | StudyContent) else content
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
    environment = words.environment(_TEMPLATES)
    environment.filters.update(duration=clock, spread=spread, svg=Markup)
    return environment
