"""What the page of an ablation shows: plain records, gathered by whoever ran the variants.

Nothing here reads a file or a clock. A panel is one dimension of the settings;
all of its variants share everything else with the default setting.
"""

from __future__ import annotations

from dataclasses import dataclass

from trsr.evaluation.intervals import Estimate
from trsr.report.comparison.provenance import Provenance


@dataclass(frozen=True, slots=True)
class Variant:
    """One value of a dimension, as measured.

    Parameters
    ----------
    label
        The value in words, such as ``recurrent`` or ``5``.
    value
        The primary measure: mean over users (each user first averaged over seeds), 95% interval over users.
    by_seed
        The mean over users at each seed, in the order of `Provenance.seeds`.
    is_default
        Whether this is the default setting; one variant a panel at most.
    p
        Two-sided p of the paired test against the default variant, Holm-adjusted within the panel;
        None for the default itself, and where nothing was tested.
    users
        Users measured.
    seconds
        Mean over seeds of the training seconds; None when unknown.
    note
        What else has to be known, such as ``stopped at 3 of 5 epochs``; may be empty.
    """

    label: str
    value: Estimate
    by_seed: tuple[float, ...] = ()
    is_default: bool = False
    p: float | None = None
    users: int = 0
    seconds: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One dimension of the settings.

    Parameters
    ----------
    name
        Short and unique, such as ``recent items``.
    setting
        The configuration's field, such as ``prompt.recent_items``.
    question
        What the dimension is meant to answer, in one sentence.
    variants
        In the order in which they are drawn.
    numeric
        Whether the labels are numbers, so that their dots are joined to a curve.
    """

    name: str
    setting: str
    question: str
    variants: tuple[Variant, ...]
    numeric: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination in a grid of two dimensions; `row` and `column` are labels of the grid's."""

    row: str
    column: str
    value: Estimate
    by_seed: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Expectation:
    """An order that must hold, because the data was planted so that it does.

    Parameters
    ----------
    better, worse
        The combinations, as (row, column).
    reason
        Why it must hold, in one sentence.
    difference
        Paired difference, `better` minus `worse`, with its 95% interval; None when it was not measured.
    """

    better: tuple[str, str]
    worse: tuple[str, str]
    reason: str
    difference: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Grid:
    """Two dimensions crossed, on data whose answer is known.

    Parameters
    ----------
    name
        Such as ``summary × recent items, planted data``.
    data
        What was planted, in plain words.
    rows, columns
        Labels of both dimensions, in order.
    cells
        The combinations that were measured.
    expectations
        The orders that must hold; the page says of each whether it does.
    """

    name: str
    data: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[Cell, ...]
    expectations: tuple[Expectation, ...] = ()


@dataclass(frozen=True, slots=True)
class AblationContent:
    """Everything that the page of an ablation shows.

    Parameters
    ----------
    name
        The ablation's name.
    measure
        The primary measure, such as ``NDCG@10``.
    sampler, candidates
        How negatives were drawn, and candidates a user, the target among them.
    split
        On which users the figures are: ``test`` or ``valid``.
    panels
        One per dimension.
    provenance
        Command, configuration, seeds, versions.
    grids
        Crossed dimensions on planted data; may be empty.
    """

    name: str
    measure: str
    sampler: str
    candidates: int
    split: str
    panels: tuple[Panel, ...]
    provenance: Provenance
    grids: tuple[Grid, ...] = ()
