"""What systems did: one record of a run's or a comparison's figures, on its way to page, file and terminal.

Estimates, paired tests and calibrations are the evaluation's own. Every text is shown as text: names,
item titles, summaries and ids are escaped by the page, never trusted.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

import polars as pl

from trsr.evaluation import calibration
from trsr.evaluation.statistics import Estimate, PairedTest
from trsr.records import Split
from trsr.report.words import cutoff, family, in_order, system_name

LEVEL: Final = 0.05
"""A difference counts as told apart when its p is below."""


class Kind(StrEnum):
    """What a system is made of; it decides colours, and which rows the headline speaks of."""

    BASELINE = "baseline"
    LANGUAGE_MODEL = "language model"
    FUSED = "fused"


@dataclass(frozen=True, slots=True)
class System:
    """One system, by a unique name such as ``sasrec_text``.

    Parameters
    ----------
    label, description
        What the page calls it, and one sentence for somebody who has never heard of it; may be empty for a
        name that the report already knows.
    training_examples
        Examples that it was trained on; None for a system that isn't trained.
    training_negatives
        In words, such as ``4 a positive, uniform``; empty when none.
    seconds
        Mean over seeds of the measured seconds until it can score (training, a language model's summaries
        among it); None when it was not measured.
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
class SystemRow:
    """One system's row in one table.

    Parameters
    ----------
    metrics
        ``Recall@3``, ``NDCG@3``, ``AUC`` and so on: mean over users (each user first averaged over
        seeds) with its 95% interval. Rows of a table may have different measures.
    tie_rate
        Share of users whose target has the same score as another candidate; None when unknown.
    by_seed
        Measure to the mean over users at each seed; empty or one number for a system without chance.
    p_against_best
        Measure to the p of the paired test against the best row of the table, Holm-adjusted over
        all rows but the best. The best row, and measures that were not tested, are absent.
    exact
        Measure to its exact expectation under uniform negatives, computed from the target's rank in
        the whole catalogue; empty where full ranks don't exist.
    beyond
        ``Coverage@10`` and so on of lists of the whole catalogue; see `trsr.evaluation.beyond_accuracy`. The
        ends of coverage's interval are NaN, as it is of all users together.
    """

    system: str
    users: int
    metrics: Mapping[str, Estimate]
    tie_rate: float | None = None
    by_seed: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    p_against_best: Mapping[str, float] = field(default_factory=dict)
    exact: Mapping[str, float] = field(default_factory=dict)
    beyond: Mapping[str, Estimate] = field(default_factory=dict)

    def mean(self, metric: str) -> float:
        """Give the mean of a metric; NaN where it was not, or could not be, measured."""
        return self.metrics[metric].mean if metric in self.metrics else math.nan

    def spread(self, metric: str) -> float | None:
        """Give the standard deviation over seeds; None with fewer than two."""
        return spread(self.by_seed.get(metric, ()))

    @property
    def recalls(self) -> dict[int, Estimate]:
        """Recall by rising cut-off."""
        found = {cutoff(name): value for name, value in self.metrics.items() if family(name) == "Recall"}
        return dict(sorted(found.items()))


@dataclass(frozen=True, slots=True)
class Slice:
    """One group of the users of a table, such as those whose target is cold.

    `name` is short, such as ``cold items``; `rule` says in one sentence who belongs to it. `values` maps
    systems to the primary measure on these users; systems may be left out.
    """

    name: str
    rule: str
    users: int
    values: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True)
class MetricTable:
    """All systems against one kind of candidates: sampled in one way, or the whole catalogue.

    Parameters
    ----------
    sampler
        ``uniform``, ``popularity``, ``file``, ``impressions``, or ``catalogue`` for ranks in all of it; the
        protocol stands before it, where rows aren't users.
    candidates
        Candidates a user, the target among them; for the catalogue its number of items.
    tests
        Paired tests, a pair in either order; `PairedTest.p_holm` is quoted. Wanted, as far as the
        systems exist and for `Results.measure` at least: best against next best; chosen language model
        against chosen baseline; fused ranker against both. Empty where none were made.
    pairs
        Paired tests that somebody asked for, the first system of each minus the second.
    note, split
        What else has to be known about this table, in plain words, may be empty; whose users.
    """

    sampler: str
    candidates: int
    rows: tuple[SystemRow, ...]
    tests: tuple[PairedTest, ...] = ()
    slices: tuple[Slice, ...] = ()
    note: str = ""
    split: str = Split.TEST
    pairs: tuple[PairedTest, ...] = ()

    @property
    def name(self) -> str:
        """What tells it from the other tables of the same results."""
        return self.sampler if self.split == Split.TEST else f"{self.split} {self.sampler}"

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics that any row has, in their order."""
        return in_order(name for row in self.rows for name in row.metrics)

    @property
    def exact_metrics(self) -> tuple[str, ...]:
        """Metrics that have exact expectations, in their order."""
        return in_order(name for row in self.rows for name in row.exact)

    def row(self, system: str) -> SystemRow | None:
        """Row of a system; None when it isn't there."""
        return next((row for row in self.rows if row.system == system), None)

    def ranked(self, metric: str) -> list[SystemRow]:
        """Rows by falling metric; those without it come last, equal ones keep their order."""
        return sorted(
            self.rows,
            key=lambda row: -math.inf if math.isnan(mean := row.mean(metric)) else mean,
            reverse=True,
        )

    def best(self, metric: str) -> float:
        """Highest mean of a metric; NaN when no row has it."""
        return max((mean for row in self.rows if not math.isnan(mean := row.mean(metric))), default=math.nan)

    def is_tied(self, row: SystemRow, metric: str) -> bool:
        """Whether the paired test could not tell a row from the best."""
        p = row.p_against_best.get(metric)
        return row.mean(metric) != self.best(metric) and p is not None and p >= LEVEL

    def is_tested(self, metric: str) -> bool:
        """Whether any row was tested against the best."""
        return any(metric in row.p_against_best for row in self.rows)

    def test(self, first: str, second: str, metric: str) -> PairedTest | None:
        """Paired test of `first` minus `second`, also when the table holds it the other way round."""
        for test in self.tests:
            if test.metric == metric and (test.first, test.second) == (first, second):
                return test
            if test.metric == metric and (test.first, test.second) == (second, first):
                ends = test.difference
                turned = Estimate(-ends.mean, -ends.high, -ends.low)
                return replace(
                    test, first=first, second=second, difference=turned, wins=test.losses, losses=test.wins
                )
        return None


@dataclass(frozen=True, slots=True)
class TwoStage:
    """The whole catalogue ranked in two steps: a retriever proposes, another system orders.

    It hands on `retrieved` items; `ceiling` is the share of users whose target is among them: no second stage
    can exceed this Recall. Rows are by the system that orders, `retriever` itself stands for "order left as
    retrieved". A target that was not retrieved counts as a miss.
    """

    retriever: str
    retrieved: int
    ceiling: Estimate
    rows: tuple[SystemRow, ...]
    name: str = "two-stage"

    @property
    def table(self) -> MetricTable:
        """The rows as a table like the others."""
        return MetricTable(self.name, self.retrieved, self.rows)


@dataclass(frozen=True, slots=True)
class SystemCalibration:
    """Whether one system's scores are probabilities, as measured on the candidates that `note` names."""

    system: str
    measured: calibration.Calibration
    note: str = ""


@dataclass(frozen=True, slots=True)
class FusionWeights:
    """How the fused ranker joins its inputs: the weight of each standardised one, so that they compare.

    `fitted_on` says on whom in words, such as ``120 validation users``.
    """

    system: str
    weights: Mapping[str, float]
    fitted_on: str = ""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often two systems hit for the same users.

    A hit is a target among the first `k`. `shared` has the share of users for whom both of `systems` hit,
    ``(n_systems, n_systems)``, on the diagonal a system's own.
    """

    sampler: str
    k: int
    users: int
    systems: tuple[str, ...]
    shared: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class RankedItem:
    """One candidate at its place, with the score as the system gives it."""

    text: str
    score: float
    is_target: bool = False


@dataclass(frozen=True, slots=True)
class RankedList:
    """One system's order of a user's candidates: the first `items` of `candidates`.

    `rank` is the target's expected rank, counted from 1; ties give halves.
    """

    system: str
    rank: float
    items: tuple[RankedItem, ...]
    candidates: int


@dataclass(frozen=True, slots=True)
class UserCase:
    """One user in full: what was known, what was written, how it was ranked.

    `history` has one line per item before the target, oldest first; `summary` is what the language model read
    about the user, empty without one, and `steps` are those on the way to it, in the order of writing.
    """

    user_id: str
    history: tuple[str, ...]
    target: str
    rankings: tuple[RankedList, ...]
    summary: str = ""
    steps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UserCases:
    """Users shown one by one, in named groups; the name may be empty.

    `rule` says in one sentence how the users were chosen; never by hand.
    """

    rule: str
    groups: Mapping[str, tuple[UserCase, ...]]
    sampler: str = "uniform"


@dataclass(frozen=True, slots=True)
class Option:
    """One setting that was tried, in words, and what validation said of it; None when it could not."""

    name: str
    value: float | None


@dataclass(frozen=True, slots=True)
class Choice:
    """A decision that was taken on the validation users.

    `what` was decided, such as ``form of the language model``, by a measure such as ``NDCG@10, uniform``;
    `chosen` names an option.
    """

    what: str
    measure: str
    options: tuple[Option, ...]
    chosen: str


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the numbers come from, so that somebody else can repeat them.

    Parameters
    ----------
    config
        The resolved configuration as YAML.
    seeds
        Training seeds, in the order of `SystemRow.by_seed`.
    split_seed
        Seed of split and candidates.
    versions
        Package (or ``python``, ``trsr``) to version.
    hashes
        Candidates, artifacts and other files to their SHA-256.
    users
        Split to its number of users.
    seconds
        Wall time of the whole command; None when unknown.
    test
        The paired test, in words; may be empty.
    """

    command: str
    config: str
    seeds: tuple[int, ...] = ()
    split_seed: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, int] = field(default_factory=dict)
    choices: tuple[Choice, ...] = ()
    seconds: float | None = None
    test: str = ""

    @property
    def named_seeds(self) -> dict[str, str]:
        """What is seeded to its seeds."""
        split = {} if self.split_seed is None else {"split and candidates": str(self.split_seed)}
        return split | ({"training": ", ".join(map(str, self.seeds))} if self.seeds else {})


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that a run or a comparison measured.

    Parameters
    ----------
    measure
        The primary measure, set before any test user was measured; headline, slices and marks speak of it.
    systems
        All systems, in the order in which tables without any sorting show them.
    tables
        Sampled tables, test users first; the first is the one that the headline speaks of.
    domain
        What is ranked: ``shopping``, ``news``, ``video`` or ``generic``.
    items
        Number of items in the catalogue; None when it isn't known.
    language_model, baseline
        Those that validation chose; empty without one.
    catalogue
        Ranks in the whole catalogue; None when they were not computed. Systems that can't score the
        whole catalogue are left out.
    two_stage, fusion, agreement, cases
        None where there was none.
    rows, calibration
        Whether a user may have several of what was measured; one per system that gives a probability.
    """

    name: str
    measure: str
    systems: tuple[System, ...]
    tables: tuple[MetricTable, ...]
    provenance: Provenance
    domain: str = "generic"
    items: int | None = None
    language_model: str = ""
    baseline: str = ""
    catalogue: MetricTable | None = None
    two_stage: TwoStage | None = None
    calibration: tuple[SystemCalibration, ...] = ()
    fusion: FusionWeights | None = None
    agreement: Agreement | None = None
    cases: UserCases | None = None
    rows: bool = False

    @property
    def all_tables(self) -> tuple[MetricTable, ...]:
        """Sampled tables, whole catalogue, two stages, as far as they exist."""
        two_stage = self.two_stage.table if self.two_stage else None
        return (*self.tables, *(table for table in (self.catalogue, two_stage) if table is not None))

    @property
    def main_tables(self) -> tuple[MetricTable, ...]:
        """Sampled tables of the first one's users."""
        return tuple(table for table in self.tables if table.split == self.tables[0].split)

    def system(self, name: str) -> System:
        """Give the record of a system; a name that none explains is a baseline."""
        return next((system for system in self.systems if system.name == name), System(name))

    def label(self, name: str) -> str:
        """Name of a system in tables, figures and sentences."""
        return self.system(name).label or system_name(name)

    def kind(self, name: str) -> Kind:
        """Say what a system is made of."""
        return self.system(name).kind

    def named(self, kind: Kind) -> list[str]:
        """Names of all systems of a kind."""
        return [system.name for system in self.systems if system.kind is kind]


def system_rows(results: Results) -> pl.DataFrame:
    """Make one row a system: how it was trained, then each figure by its candidates; null where none is."""
    tables = results.all_tables
    users = {row.system: row.users for table in tables for row in table.rows}
    rows = []
    for system in results.systems:
        row: dict[str, Any] = {
            "system": system.name,
            "kind": system.kind.value,
            "users": users.get(system.name),
            "seeds": system.seeds,
            "training_examples": system.training_examples,
            "training_negatives": system.training_negatives,
            "training_seconds": system.seconds,
        }
        for table in tables:
            row |= _figures(table.name, found) if (found := table.row(system.name)) else {}
        rows.append(row)
    columns = dict.fromkeys(column for row in rows for column in row)
    return pl.DataFrame(
        [{column: row.get(column) for column in columns} for row in rows], infer_schema_length=None
    )


def _figures(name: str, row: SystemRow) -> dict[str, float | None]:
    figures: dict[str, float | None] = {f"{name} tie rate": row.tie_rate}
    for metric, estimate in row.metrics.items():
        figures |= {
            f"{name} {metric}": estimate.mean,
            f"{name} {metric} low": estimate.low,
            f"{name} {metric} high": estimate.high,
            f"{name} {metric} sd over seeds": row.spread(metric),
        }
        if metric in row.exact:
            figures[f"{name} {metric} expected"] = row.exact[metric]
        if metric in row.p_against_best:
            figures[f"{name} {metric} p against best"] = row.p_against_best[metric]
    for metric, estimate in row.beyond.items():
        figures[f"{name} {metric}"] = estimate.mean
        if not math.isnan(estimate.low):
            figures |= {f"{name} {metric} low": estimate.low, f"{name} {metric} high": estimate.high}
    return figures


def spread(means: tuple[float, ...]) -> float | None:
    """Give the standard deviation of means over seeds; None with fewer than two."""
    return statistics.stdev(means) if len(means) > 1 else None
