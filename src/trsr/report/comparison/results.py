"""Records of a comparison's page: systems, rows, labels, where the figures come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from trsr.evaluation.statistics import Estimate
from trsr.report import wording
from trsr.report.insights import Agreement, Calibration, Duels, Fusion
from trsr.report.wording import count, split_name


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
        Systems; the difference is `first` minus `second`.
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

    `name` is short, such as ``cold items``; `rule` says in one sentence who belongs to it. `values` maps
    systems to the primary measure on these users; systems may be left out.
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
    contrasts
        Paired differences. Wanted, as far as the systems exist and for `ComparisonContent.measure` at
        least: best against next best; chosen language model against chosen baseline; fused ranker
        against the language model and against the chosen baseline. The page finds a pair in either order.
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


class Roster:
    """Look up systems by name; a name that no `System` explains is shown as it is, as a baseline.

    Examples
    --------
    >>> roster = Roster([System("tfidf"), System("lm", "Our model", Kind.LANGUAGE_MODEL)])
    >>> roster.label("tfidf"), roster.label("lm"), roster.system("lm").kind.value
    ('TF-IDF similarity', 'Our model', 'language model')
    """

    def __init__(self, systems: Iterable[System]) -> None:
        self._systems = {system.name: system for system in systems}

    def system(self, name: str) -> System:
        """Give the record of a system."""
        return self._systems.get(name, System(name))

    def label(self, name: str) -> str:
        """Name of a system in tables and figures."""
        return self.system(name).label or wording.system_name(name)

    def inside(self, name: str) -> str:
        """Name of a system inside a sentence."""
        return self.system(name).label or wording.inside(name)

    def kind(self, name: str) -> Kind:
        """Say what a system is made of."""
        return self.system(name).kind

    def place(self, name: str) -> int:
        """Place in the order of the comparison; unknown systems come last."""
        names = list(self._systems)
        return names.index(name) if name in names else len(names)


def standing(table: Table, name: str) -> Standing | None:
    """Row of a system in a table; None when it isn't there."""
    return next((row for row in table.standings if row.system == name), None)


def contrast(table: Table, first: str, second: str, measure: str) -> Contrast | None:
    """Paired difference `first` minus `second`, also when the table holds it the other way round."""
    for found in table.contrasts:
        if found.measure != measure:
            continue
        if (found.first, found.second) == (first, second):
            return found
        if (found.first, found.second) == (second, first):
            ends = found.difference
            turned = type(ends)(-ends.mean, -ends.high, -ends.low)
            return Contrast(first, second, measure, turned, found.p)
    return None


@dataclass(frozen=True, slots=True)
class Option:
    """One setting that was tried, in words such as ``hidden 64, layers 2``, and what validation said of it.

    `value` is the measure on the validation users; None when it could not be computed.
    """

    name: str
    value: float | None


@dataclass(frozen=True, slots=True)
class Choice:
    """A decision that was taken on the validation users.

    `what` was decided, such as ``settings of SASRec`` or ``form of the language model``, by a measure such
    as ``NDCG@10, uniform``; `chosen` names an option.
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
        Training seeds, in the order of `Standing.by_seed`.
    split_seed
        Seed of split and candidates.
    versions
        Package (or ``python``, ``platform``, ``trsr``) to version.
    hashes
        Candidates and other inputs to their SHA-256.
    users
        Split to its number of users.
    seconds
        Wall time of the whole comparison; None when unknown.
    test
        The paired test and its resamples, in words; may be empty.
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
    def named_users(self) -> dict[str, str]:
        """Split, as the page calls it, to its number of users."""
        return {split_name(split): count(users) for split, users in self.users.items()}

    @property
    def named_seeds(self) -> dict[str, str]:
        """What is seeded to its seeds."""
        split = {} if self.split_seed is None else {"split and candidates": str(self.split_seed)}
        return split | ({"training": ", ".join(map(str, self.seeds))} if self.seeds else {})


@dataclass(frozen=True, slots=True)
class ComparisonContent:
    """Everything that the page of a comparison shows.

    Parameters
    ----------
    measure
        The primary measure, set before any test user was measured; headline, slices and marks speak of it.
    systems
        All systems, in the order in which tables without any sorting show them.
    tables
        Sampled tables on the test users; the first is the one that the headline speaks of.
    domain
        What is ranked: ``shopping``, ``news``, ``video`` or ``generic``.
    items
        Number of items in the catalogue; None when it isn't known.
    language_model
        The one that validation chose; empty without one.
    baseline
        The one that validation chose as the best; empty without one.
    catalogue
        Ranks in the whole catalogue; None when they were not computed. Systems that can't score the
        whole catalogue are left out.
    two_stage
        None when it was not run.
    calibration
        One per system that gives a probability.
    duels
        None without a language model or a baseline.
    """

    name: str
    measure: str
    systems: tuple[System, ...]
    tables: tuple[Table, ...]
    provenance: Provenance
    domain: str = "generic"
    items: int | None = None
    language_model: str = ""
    baseline: str = ""
    catalogue: Table | None = None
    two_stage: TwoStage | None = None
    calibration: tuple[Calibration, ...] = ()
    fusion: Fusion | None = None
    agreement: Agreement | None = None
    duels: Duels | None = None
