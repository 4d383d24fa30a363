"""Metrics of one relevant item, per user, in expectation over the order of equal scores.

With one relevant item, a metric is a gain ``g(r)`` of its rank ``r`` among the candidates: 1 for Recall up to
the cut-off, ``1 / r`` for MRR, ``1 / log2(r + 1)`` for NDCG, 0 beyond. When the target shares its score with
``t`` others and ``b`` are above, its rank is any of ``b + 1 ... b + t + 1`` with equal chance, and the metric
is the mean gain over these ranks. It is not the gain at the mean rank, which would turn two tied candidates
at the cut-off into all or nothing. A `Metric` says its gain alone; ties are the same for all.

AUC is the share of other candidates that stand below the target, those with its
score counted half: the chance that the target beats one drawn at random.

A figure among sampled candidates, one in the whole catalogue and one of a two-stage
ranking differ in kind. All but the first carry their `Protocol` in the metric's
name, so that they can't end up in one column.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar, Final

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from trsr.config.section import Section
from trsr.errors import ConfigError, DataError
from trsr.records import CANDIDATES, ITEM, PERSON, SCORE, SPLIT, TARGET, USER
from trsr.registry import METRICS, make_part

_Ints = NDArray[np.int64]
_Floats = NDArray[np.float64]


class Metric(ABC):
    """A gain of the target's rank; settings are those of the class's own ``Settings``, by keyword."""

    Settings: ClassVar[type[Section]] = Section
    """What can be set, with its defaults."""

    def __init__(self, **settings: Any) -> None:
        self.settings: Any = self.Settings(**settings)

    @property
    def name(self) -> str:
        """Name in tables: the class's, and the cut-off where there is one."""
        return f"{type(self).__name__}{f'@{self.k}' if self.k else ''}"

    @property
    def k(self) -> int | None:
        """Rank beyond which every gain is 0: the setting `k`, where there is one; None for no such rank."""
        return getattr(self.settings, "k", None)

    @abstractmethod
    def gains(self, ranks: _Floats, others: int) -> _Floats:
        """Give the gain of each rank; beyond `k` they aren't asked for.

        Parameters
        ----------
        ranks
            ``1, 2, ...``: possible ranks of the target, ``(n_ranks,)``.
        others
            Candidates beside the target.
        """

    def table(self, others: int) -> _Floats:
        """Give the gains of rank 1 and so on, one a rank; what follows is 0."""
        last = others + 1 if self.k is None else min(self.k, others + 1)
        table = np.asarray(self.gains(np.arange(1.0, last + 1), others), dtype=np.float64)
        if table.shape != (last,) or not np.isfinite(table).all():
            message = f"the metric {self.name!r} must give one finite number a rank, {last} here, got {table}"
            raise ConfigError(message)
        return table

    def best(self, positives: int, others: int) -> float:
        """Give what the gains of several positives are divided by: their number, for their mean."""
        return positives

    def expected(self, above: _Ints, tied: _Ints, others: _Ints) -> _Floats:
        """Average the gains over the ranks that ties leave open, ``(n_users,)``; see `expected_metrics`."""
        values, last = np.empty(above.shape), above + tied + 1
        for count in np.unique(others):
            here = others == count
            gains = self.table(int(count))
            total = np.concatenate([[0.0], np.cumsum(gains)])
            low, high = (np.minimum(rank[here], len(gains)) for rank in (above, last))
            values[here] = (total[high] - total[low]) / (last - above)[here]
        return values


class CutOff(Section):
    """A metric with a cut-off."""

    k: int = Field(10, ge=1)
    """Ranks that count."""


class Recall(Metric):
    """Whether the target is among the first `k`."""

    Settings = CutOff

    def gains(self, ranks: _Floats, others: int) -> _Floats:
        """Give 1; see `Metric`."""
        return np.ones(len(ranks))


class MRR(Metric):
    """One by the target's rank."""

    Settings = CutOff

    def gains(self, ranks: _Floats, others: int) -> _Floats:
        """Give the reciprocal rank; see `Metric`."""
        return 1 / ranks


class NDCG(Metric):
    """One by the logarithm of the target's rank."""

    Settings = CutOff

    def gains(self, ranks: _Floats, others: int) -> _Floats:
        """Give the discount; see `Metric`."""
        return 1 / np.log2(ranks + 1)

    def best(self, positives: int, others: int) -> float:
        """Give the gains of positives that all stand first; see `Metric`."""
        return float(self.table(others)[:positives].sum())


class AUC(Metric):
    """Share of the other candidates that stand below the target."""

    def gains(self, ranks: _Floats, others: int) -> _Floats:
        """Give the share; one half where there is nothing to compare with; see `Metric`."""
        return (others + 1 - ranks) / others if others else np.full(len(ranks), 0.5)

    def expected(self, above: _Ints, tied: _Ints, others: _Ints) -> _Floats:
        """Take the gain at the mean rank, which is the mean gain: the gain is a straight line."""
        return np.where(others > 0, (others - above - tied / 2) / np.maximum(others, 1), 0.5)


FAMILIES: Final = (Recall, MRR, NDCG)
"""Metrics that are always measured, at the cut-offs of the settings; `AUC` is the other one."""


def metrics_at(ks: Sequence[int], further: Sequence[str] = ()) -> tuple[Metric, ...]:
    """Make the metrics of a table: Recall, MRR and NDCG at each cut-off, AUC, and further ones by name.

    Examples
    --------
    >>> [metric.name for metric in metrics_at([3], ["Recall(k=20)"])]
    ['Recall@3', 'MRR@3', 'NDCG@3', 'AUC', 'Recall@20']
    """
    made: list[Metric] = [family(k=k) for family in FAMILIES for k in ks]
    made += [AUC(), *(make_part("metric", name, METRICS) for name in further)]
    return tuple(made)


class Protocol(StrEnum):
    """Among what the target was ranked, where not among the frozen candidates."""

    CATALOGUE = "catalogue"
    """All items but the history."""
    EXPECTED = "expected"
    """The frozen candidates' figure in exact expectation over all draws of uniform negatives."""
    TWO_STAGE = "two-stage"
    """What a retriever proposed; a target that it missed counts 0."""
    RECOMMENDED = "recommended"
    """The list that `recommend` gives, the history in it as far as it ranks; a missing target counts 0."""


def named(metrics: Mapping[str, _Floats], *protocol: str) -> dict[str, _Floats]:
    """Say in the metrics' names how they were measured: on which rows, where they aren't users, among what.

    Examples
    --------
    >>> list(named({"Recall@3": np.ones(1)}, "rolling", Protocol.CATALOGUE))
    ['Recall@3 (rolling, catalogue)']
    >>> list(named({"Recall@3": np.ones(1)}, ""))
    ['Recall@3']
    """
    told = protocol_label(*protocol)
    return {f"{name} ({told})" if told else name: values for name, values in metrics.items()}


def protocol_label(*parts: str) -> str:
    """Join what is said of how something was measured; what is empty is not said.

    Examples
    --------
    >>> protocol_label("", "rolling", Protocol.CATALOGUE)
    'rolling, catalogue'
    """
    return ", ".join(filter(None, parts))


def plain_name(metric: str) -> str:
    """Return a metric's name without its protocol, for records that say elsewhere how it was measured.

    Examples
    --------
    >>> plain_name("Recall@3 (catalogue)"), plain_name("AUC")
    ('Recall@3', 'AUC')
    """
    return metric.partition(" (")[0]


def place_target(scores: ArrayLike, target: ArrayLike) -> tuple[_Ints, _Ints]:
    """Count the candidates above the target and those equal to it.

    Parameters
    ----------
    scores
        Scores of all candidates, the target among them, ``(n_users, n_candidates)``.
    target
        Column of the target per user, ``(n_users,)``.

    Returns
    -------
    tuple[numpy.ndarray, numpy.ndarray]
        Candidates with a higher score, and other candidates with the same score,
        both ``(n_users,)``.

    Raises
    ------
    DataError
        When a score is NaN.

    Examples
    --------
    >>> above, tied = place_target([[0.9, 0.5, 0.5], [0.1, 0.2, 0.3]], [2, 2])
    >>> above.tolist(), tied.tolist()
    ([1, 0], [1, 0])
    """
    table = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    column = np.asarray(target, dtype=np.int64)
    refuse_nan(table)
    own = np.take_along_axis(table, column[:, None], axis=1)
    return (table > own).sum(axis=1), (table == own).sum(axis=1) - 1


def refuse_nan(scores: NDArray[Any]) -> None:
    """Raise `DataError` when a score of ``(n_users, n_items)`` is NaN, naming the user's row."""
    if np.isnan(scores).any():
        row = int(np.argwhere(np.isnan(scores))[0, 0])
        message = f"scores must be numbers, got NaN for user number {row}; a NaN has no place in a ranking"
        raise DataError(message)


def expected_metrics(
    above: ArrayLike, tied: ArrayLike, others: ArrayLike, metrics: Iterable[Metric]
) -> dict[str, _Floats]:
    """Compute every metric, per user.

    Parameters
    ----------
    above
        Candidates with a higher score than the target, ``(n_users,)``.
    tied
        Other candidates with the target's score, ``(n_users,)``.
    others
        Candidates beside the target, ``(n_users,)``, or one number for all.

    Returns
    -------
    dict[str, numpy.ndarray]
        ``Recall@3`` and so on, each ``(n_users,)``.

    Examples
    --------
    A constant scorer over 21 candidates has the target in the first 3 with chance 3 / 21:

    >>> float(expected_metrics([0], [20], 20, [Recall(k=3)])["Recall@3"][0]) == 3 / 21
    True
    >>> expected_metrics([0, 1, 0], [0, 0, 20], 20, [AUC()])["AUC"].tolist()
    [1.0, 0.95, 0.5]
    """
    first, equal = np.asarray(above, dtype=np.int64), np.asarray(tied, dtype=np.int64)
    counts = np.broadcast_to(np.asarray(others, dtype=np.int64), first.shape)
    return {metric.name: metric.expected(first, equal, counts) for metric in metrics}


def several_positives(
    scores: _Floats, positives: NDArray[np.bool_], offered: NDArray[np.bool_], metrics: Iterable[Metric]
) -> tuple[_Ints, dict[str, _Floats]]:
    """Compute metrics of rows with one positive or several, and how many others share the first one's score.

    Each positive has the gain of its rank among all that was offered, in expectation over ties; NDCG divides
    their sum by what it is when they all stand first, Recall and MRR by their number. AUC is the share of the
    pairs of a positive and a negative that stand right. With one positive all are as `expected_metrics` says.
    These are MIND's definitions: Wu et al., MIND: a large-scale dataset for news recommendation, ACL 2020.
    All tables are ``(n_rows, n_candidates)``; each row has a positive and a negative.

    Examples
    --------
    >>> scores, clicked = np.array([[0.9, 0.5, 0.7, 0.1]]), np.array([[True, True, False, False]])
    >>> _, values = several_positives(scores, clicked, np.ones((1, 4), bool), [MRR(k=4), AUC()])
    >>> float(values["MRR@4"][0]) == (1 + 1 / 3) / 2, float(values["AUC"][0])
    (True, 0.75)
    """
    refuse_nan(np.where(offered, scores, 0.0))
    row, column = np.nonzero(positives)
    own = scores[row, column][:, None]
    beside, negative = offered[row], (offered & ~positives)[row]
    higher, level = scores[row] > own, scores[row] == own
    among = {
        True: ((higher & negative).sum(axis=1), (level & negative).sum(axis=1), negative.sum(axis=1)),
        False: ((higher & beside).sum(axis=1), (level & beside).sum(axis=1) - 1, beside.sum(axis=1) - 1),
    }
    counts, others = positives.sum(axis=1), offered.sum(axis=1) - 1
    numbers, of_row = np.unique(np.stack([counts, others], axis=1), axis=0, return_inverse=True)
    computed = {}
    for metric in metrics:
        gains = metric.expected(*among[isinstance(metric, AUC)])
        best = np.array([metric.best(int(count), int(other)) for count, other in numbers])[of_row.ravel()]
        computed[metric.name] = np.bincount(row, gains, minlength=len(scores)) / best
    first = np.searchsorted(row, np.arange(len(scores)))
    return among[False][1][first], computed


TIED: Final = "tied"
"""Column: how many other candidates share the target's score."""

_OWN: Final = "target_score"
_ABOVE: Final = "above"
_OTHERS: Final = "others"
_PAIR: Final = [USER, ITEM]


def user_metrics(candidates: pl.DataFrame, scores: pl.DataFrame, metrics: Iterable[Metric]) -> pl.DataFrame:
    """Measure where each user's target stands among the user's candidates.

    The order of rows and of candidates has no influence.

    Parameters
    ----------
    candidates
        `USER`, `SPLIT`, `TARGET` and `CANDIDATES` of the users to be measured.
    scores
        `USER`, `ITEM` and `SCORE`; rows of other users are ignored.
    metrics
        What to measure.

    Returns
    -------
    polars.DataFrame
        `USER`, `SPLIT`, `TIED`, then one column per metric (``Recall@3`` and so on), by rising user id.

    Raises
    ------
    DataError
        When a candidate is not scored exactly once, an item is scored that is no
        candidate, a score is no number, or a target is not among its candidates once.

    Examples
    --------
    >>> row = {"user_id": ["u"], "split": ["test"], "target": ["a"], "candidates": [["b", "a"]]}
    >>> scores = pl.DataFrame({"user_id": ["u", "u"], "item_id": ["a", "b"], "score": [0.5, 0.5]})
    >>> user_metrics(pl.DataFrame(row), scores, [Recall(k=1)])["Recall@1"].to_list()
    [0.5]
    """
    pairs = candidates.select(USER, pl.col(CANDIDATES).alias(ITEM)).explode(ITEM)
    _refuse(pairs, pairs.is_duplicated(), "candidates name a pair more than once")
    mine = scores.select(*_PAIR, pl.col(SCORE).cast(pl.Float64)).join(candidates, on=USER, how="semi")
    _refuse(mine, mine.select(_PAIR).is_duplicated(), "scores must hold every candidate once, but repeat")
    _refuse(
        mine, mine[SCORE].is_null() | mine[SCORE].is_nan(), "scores must be numbers, but hold NaN or null for"
    )
    missing = pairs.join(mine, on=_PAIR, how="anti")
    _refuse(missing, None, "scores must hold every candidate once, but lack")
    extra = mine.join(pairs, on=_PAIR, how="anti")
    _refuse(extra, None, "scores must hold candidates only, but hold also")
    own = candidates.select(USER, SPLIT, pl.col(TARGET).alias(ITEM)).join(mine, on=_PAIR, how="left")
    _refuse(own, own[SCORE].is_null(), "candidates must hold the target, but don't for")
    own = own.select(USER, SPLIT, pl.col(SCORE).alias(_OWN))
    placed = (
        mine.join(own, on=USER)
        .group_by(USER, SPLIT)
        .agg(
            (pl.col(SCORE) > pl.col(_OWN)).sum().cast(pl.Int64).alias(_ABOVE),
            (pl.col(SCORE) == pl.col(_OWN)).sum().cast(pl.Int64).sub(1).alias(TIED),
            pl.len().cast(pl.Int64).sub(1).alias(_OTHERS),
        )
        .sort(USER)
    )
    above, tied = placed[_ABOVE].to_numpy(), placed[TIED].to_numpy()
    computed = expected_metrics(above, tied, placed[_OTHERS].to_numpy(), metrics)
    return metrics_frame(placed[USER], placed[SPLIT], tied, computed)


def metrics_frame(
    users: Sequence[str] | pl.Series,
    splits: Sequence[str] | pl.Series,
    tied: ArrayLike,
    metrics: Mapping[str, NDArray[np.float64]],
    persons: Sequence[str] = (),
) -> pl.DataFrame:
    """Put metrics that were computed user by user into the frame that all statistics work on.

    All are ``(n_users,)``; `tied` says how many others share the target's score. The frame has `USER`,
    `SPLIT`, `TIED`, then one column per metric, by rising user id. Where users have several rows, `persons`
    says whose each is, and the frame has `PERSON` too.

    Examples
    --------
    >>> metrics_frame(["v", "u"], ["test", "test"], [0, 1], {"AUC": np.array([1.0, 0.5])})["AUC"].to_list()
    [0.5, 1.0]
    """
    columns = [pl.Series(name, values, dtype=pl.Float64) for name, values in metrics.items()]
    return pl.DataFrame(
        [
            pl.Series(USER, users, dtype=pl.String),
            pl.Series(SPLIT, splits, dtype=pl.String),
            pl.Series(TIED, np.asarray(tied)),
            *([pl.Series(PERSON, persons, dtype=pl.String)] if persons else []),
            *columns,
        ]
    ).sort(USER)


def metric_names(per_user: pl.DataFrame) -> list[str]:
    """Names of the metrics in a frame of `metrics_frame`'s form."""
    return [name for name in per_user.columns if name not in (USER, SPLIT, TIED, PERSON)]


def _refuse(pairs: pl.DataFrame, where: pl.Series | None, rule: str) -> None:
    """Raise when there are pairs `where` the rule is broken."""
    broken = pairs if where is None else pairs.filter(where)
    if broken.is_empty():
        return
    user, item = broken.select(_PAIR).row(0)
    message = (
        f"{rule} user {user!r}, item {item!r} ({broken.height:,} such pairs); "
        "score exactly the candidates of candidates.parquet"
    )
    raise DataError(message)
