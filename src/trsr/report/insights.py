"""What a comparison says beside its tables: calibration, weights, shared hits, users one by one."""

from __future__ import annotations

from dataclasses import dataclass

from trsr.evaluation import calibration
from trsr.evaluation.statistics import Estimate


@dataclass(frozen=True, slots=True)
class Bin:
    """Candidates whose p(yes) lies in one range: its mean, and the share of targets among them."""

    predicted: float
    observed: float
    count: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """Whether p(yes) can be read as a probability, for one system.

    Parameters
    ----------
    bins
        By rising `Bin.predicted`; empty bins are left out.
    ece
        Expected calibration error.
    brier
        Brier score: mean squared distance of p(yes) from 1 for targets, 0 for negatives.
    note
        On which candidates, in words, such as ``20 uniform negatives a target; a share of 1 in 21 is yes``.
    ece_interval, brier_interval
        95% intervals over users; None when they were not computed.
    """

    system: str
    bins: tuple[Bin, ...]
    ece: float
    brier: float
    note: str = ""
    ece_interval: Estimate | None = None
    brier_interval: Estimate | None = None

    @classmethod
    def of(cls, system: str, measured: calibration.Calibration, note: str = "") -> Calibration:
        """Show what the evaluation measured, by its bins of equal mass."""
        bins = tuple(Bin(one.predicted, one.observed, one.pairs) for one in measured.equal_mass)
        ece, brier = measured.ece_equal_mass, measured.brier
        return cls(system, bins, ece.mean, brier.mean, note, ece, brier)


@dataclass(frozen=True, slots=True)
class FusedWeight:
    """One input of the fused ranker.

    Parameters
    ----------
    name
        The system that gives the input, or another feature.
    weight
        On the standardised input, so that weights can be compared.
    low, high
        95% interval of the weight; None when it was not computed.
    """

    name: str
    weight: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Fusion:
    """How the fused ranker joins its inputs.

    Parameters
    ----------
    weights
        In any order; the page orders them by size.
    fitted_on
        In words, such as ``validation users, uniform negatives, 5 folds``.
    intercept
        The constant; None when the form has none.
    """

    system: str
    weights: tuple[FusedWeight, ...]
    fitted_on: str = ""
    intercept: float | None = None


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often two systems hit for the same users.

    Parameters
    ----------
    sampler
        As in `Table.sampler`.
    k
        A hit is a target among the first k.
    systems
        In the order of rows and columns.
    shared
        Share of users (0 to 1) for whom both systems hit, ``(n_systems, n_systems)``; on the diagonal
        the system's own share of hits.
    """

    sampler: str
    k: int
    users: int
    systems: tuple[str, ...]
    shared: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Placed:
    """One candidate at its place in a system's order, with the score as the system gives it.

    It is the target when the user really took it next.
    """

    text: str
    score: float
    is_target: bool = False


@dataclass(frozen=True, slots=True)
class Duel:
    """One user for whom the language model and the best baseline differ.

    Parameters
    ----------
    history
        One line per item before the target, oldest first.
    summary
        What the language model read about the user; empty without a summary.
    model_rank, baseline_rank
        The target's expected rank in both orders, counted from 1.
    model_top, baseline_top
        The first few candidates of both orders.
    """

    user_id: str
    history: tuple[str, ...]
    summary: str
    target: str
    model_rank: float
    baseline_rank: float
    model_top: tuple[Placed, ...]
    baseline_top: tuple[Placed, ...]


@dataclass(frozen=True, slots=True)
class Duels:
    """Cards of users for whom the language model is ahead of the baseline, and behind it.

    `rule` says in one sentence how the users were chosen; never by hand.
    """

    rule: str
    wins: tuple[Duel, ...]
    losses: tuple[Duel, ...]
    sampler: str = "uniform"
