"""Systems of a comparison and their rows: how each did, against which candidates, compared with whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from trsr.evaluation.intervals import Estimate


class Kind(StrEnum):
    """What a system is made of; it decides colours, and which rows the headline speaks of."""

    BASELINE = "baseline"
    LANGUAGE_MODEL = "language model"
    FUSED = "fused"


@dataclass(frozen=True, slots=True)
class System:
    """One system of the comparison.

    Parameters
    ----------
    name
        Its name in all records of this module, such as ``sasrec_text``; unique.
    label
        How the page calls it; a name that the report already knows may be left empty.
    kind
        What it is made of.
    description
        One sentence for somebody who has never heard of it.
    training_examples
        Examples that it was trained on; None for a system that isn't trained.
    training_negatives
        In words, such as ``4 a positive, uniform`` or ``all items (softmax)``; empty when none.
    seconds
        Mean over seeds of the seconds until the system can score, as measured (training and, for
        the language model, its summaries); None when it was not measured.
    seeds
        Seeds over which it was trained; 1 for a system without chance.
    """

    name: str
    label: str = ""
    kind: Kind = Kind.BASELINE
    description: str = ""
    training_examples: int | None = None
    training_negatives: str = ""
    seconds: float | None = None
    seeds: int = 1


@dataclass(frozen=True, slots=True)
class Standing:
    """One system's row in one table.

    Parameters
    ----------
    system
        Name of the system.
    users
        Users measured.
    metrics
        ``Recall@3``, ``MRR@3``, ``NDCG@3``, ..., ``AUC`` and so on: mean over users (each user first
        averaged over seeds) with its 95% interval. All rows of a table may have different measures.
    tie_rate
        Share of users whose target has the same score as another candidate; None when unknown.
    by_seed
        Measure to the mean over users at each seed, in the order of `Provenance.seeds`; empty or one
        number for a system without chance. The page shows their standard deviation (ddof 1).
    p_against_best
        Measure to the p of the paired test of this system against the best row of the same table in
        that measure, Holm-adjusted over all rows but the best; without the best row itself. Measures
        that were not tested are absent.
    recall_curve
        Recall@1, Recall@2, ... as far as wanted, for the curve; empty: the curve is drawn from the
        Recall measures of `metrics`.
    exact
        Measure to its exact expectation under uniform negatives, computed from the target's rank in
        the whole catalogue; shown beside the sampled figure. Empty where full ranks don't exist.
    """

    system: str
    users: int
    metrics: Mapping[str, Estimate]
    tie_rate: float | None = None
    by_seed: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    p_against_best: Mapping[str, float] = field(default_factory=dict)
    recall_curve: tuple[Estimate, ...] = ()
    exact: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Contrast:
    """The paired difference of two systems on the same users and candidates.

    Parameters
    ----------
    first, second
        Names of the systems; the difference is `first` minus `second`.
    measure
        Such as ``NDCG@10``.
    difference
        Mean over users with its 95% interval (paired bootstrap).
    p
        Two-sided p of the paired test, as it is to be quoted (adjusted where several were tested).
    """

    first: str
    second: str
    measure: str
    difference: Estimate
    p: float


@dataclass(frozen=True, slots=True)
class Slice:
    """One group of the users of a table, such as those whose target is cold.

    Parameters
    ----------
    name
        Short, such as ``cold items``.
    rule
        Who belongs to it, in one sentence.
    users
        How many users these are.
    values
        System to the primary measure on these users; systems may be left out.
    """

    name: str
    rule: str
    users: int
    values: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True)
class Table:
    """All systems against one kind of candidates: sampled in one way, or the whole catalogue.

    Parameters
    ----------
    sampler
        ``uniform``, ``popularity``, or ``catalogue`` for ranks in the whole catalogue.
    candidates
        Candidates a user, the target among them; for the catalogue its number of items.
    standings
        One per system.
    contrasts
        Paired differences. Wanted, as far as the systems exist and for `ComparisonContent.measure` at
        least: best against next best; chosen language model against chosen baseline; fused ranker
        against the language model and against the chosen baseline. The page finds a pair in either order.
    slices
        Groups of the users, by the primary measure.
    note
        What else has to be known about this table, in plain words; may be empty.
    """

    sampler: str
    candidates: int
    standings: tuple[Standing, ...]
    contrasts: tuple[Contrast, ...] = ()
    slices: tuple[Slice, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class TwoStage:
    """The whole catalogue ranked in two steps: a retriever proposes, another system orders.

    Parameters
    ----------
    retriever
        Name of the system that proposes.
    retrieved
        Items that it hands on.
    ceiling
        Share of users whose target is among them: no second stage can exceed this Recall.
    standings
        Rows by the system that orders; `retriever` itself stands for "order left as retrieved". A target that
        was not retrieved counts as a miss.
    """

    retriever: str
    retrieved: int
    ceiling: Estimate
    standings: tuple[Standing, ...]
