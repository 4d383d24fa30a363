"""How far two systems say the same: shared hits, the order of candidates, the first few.

Ties are broken by chance everywhere and the expectation is taken: a tied target is a
hit in part, and tied candidates are among the first k in part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trsr.errors import DataError
from trsr.records import ITEM, SCORE, USER

_FIRST: Final = "first"
_SECOND: Final = "second"
_EQUAL: Final = 1e-12


@dataclass(frozen=True, slots=True)
class SharedHits:
    """For which share of users both, one, or neither of two systems hit, and who is ahead.

    The four shares sum to 1; ties of the two systems are broken independently. Wins, losses and ties are
    users for whom the first system is ahead, behind, level, by the same metric.
    """

    users: int
    both: float
    only_first: float
    only_second: float
    neither: float
    wins: int
    losses: int
    ties: int


@dataclass(frozen=True, slots=True)
class OrderAgreement:
    """How alike two systems order the candidates.

    Parameters
    ----------
    rank_correlation
        Spearman's, of the candidates within a user, mean over users for whom it exists; NaN when
        there is none.
    users_without_correlation
        Users for whom one system gives all candidates the same score.
    jaccard
        Overlap of the first k by union, mean over users; with ties of expected memberships, the sum
        of the smaller ones over the sum of the greater ones.
    """

    users: int
    rank_correlation: float
    users_without_correlation: int
    jaccard: float


def shared_hits(first: pl.DataFrame, second: pl.DataFrame, metric: str) -> SharedHits:
    """Compare the hits of two systems, as `user_metrics` gives them, user by user.

    The metric is a Recall, such as ``Recall@3``. Raises `DataError` when the users differ.

    Examples
    --------
    >>> first = pl.DataFrame({"user_id": ["u", "v"], "Recall@3": [1.0, 1.0]})
    >>> second = pl.DataFrame({"user_id": ["u", "v"], "Recall@3": [1.0, 0.0]})
    >>> got = shared_hits(first, second, "Recall@3")
    >>> got.both, got.only_first, got.wins, got.ties
    (0.5, 0.5, 1, 1)
    """
    a, b = _columns({_FIRST: first, _SECOND: second}, metric).T
    return SharedHits(
        users=len(a),
        both=float((a * b).mean()),
        only_first=float((a * (1 - b)).mean()),
        only_second=float(((1 - a) * b).mean()),
        neither=float(((1 - a) * (1 - b)).mean()),
        wins=int((a - b > _EQUAL).sum()),
        losses=int((b - a > _EQUAL).sum()),
        ties=int((np.abs(a - b) <= _EQUAL).sum()),
    )


def hit_matrix(systems: Mapping[str, pl.DataFrame], metric: str) -> NDArray[np.float64]:
    """Share of users for whom two systems both hit, for all pairs, ``(n_systems, n_systems)``.

    Systems are metrics user by user, all of the same users, and the metric is a Recall, such as ``Recall@3``.
    Rows follow the order of `systems`; on the diagonal stand the system's own hits.

    Examples
    --------
    >>> first = pl.DataFrame({"user_id": ["u", "v"], "Recall@3": [1.0, 1.0]})
    >>> second = pl.DataFrame({"user_id": ["u", "v"], "Recall@3": [1.0, 0.0]})
    >>> hit_matrix({"a": first, "b": second}, "Recall@3").tolist()
    [[1.0, 0.5], [0.5, 0.5]]
    """
    hits = _columns(systems, metric)
    shared = hits.T @ hits / len(hits)
    np.fill_diagonal(shared, hits.mean(axis=0))
    return shared


def order_agreement(first: pl.DataFrame, second: pl.DataFrame, k: int = 3) -> OrderAgreement:
    """Compare how two systems order the same candidates, and how far they share the first k.

    Each has `USER`, `ITEM` and `SCORE`. Raises `DataError` when the pairs differ.

    Examples
    --------
    >>> rows = {"user_id": ["u"] * 4, "item_id": list("abcd"), "score": [4.0, 3.0, 2.0, 1.0]}
    >>> first = pl.DataFrame(rows)
    >>> order_agreement(first, first.with_columns(score=-pl.col("score")), k=2)
    OrderAgreement(users=1, rank_correlation=-1.0, users_without_correlation=0, jaccard=0.0)
    """
    pairs = first.select(USER, ITEM, pl.col(SCORE).alias(_FIRST)).join(
        second.select(USER, ITEM, pl.col(SCORE).alias(_SECOND)), on=[USER, ITEM]
    )
    if not pairs.height == first.height == second.height:
        message = (
            f"two systems must score the same pairs to be compared, got {first.height:,} and "
            f"{second.height:,} of which {pairs.height:,} are the same"
        )
        raise DataError(message)
    a, b = _in_first(_FIRST, k), _in_first(_SECOND, k)
    users = (
        pairs.with_columns(a.alias("_a"), b.alias("_b"))
        .group_by(USER)
        .agg(
            pl.corr(pl.col(_FIRST).rank("average"), pl.col(_SECOND).rank("average")).alias("rho"),
            (pl.min_horizontal("_a", "_b").sum() / pl.max_horizontal("_a", "_b").sum()).alias("jaccard"),
            ((pl.col(_FIRST).n_unique() > 1) & (pl.col(_SECOND).n_unique() > 1)).alias("varied"),
        )
    )
    rho = users.filter("varied")["rho"].to_numpy()
    return OrderAgreement(
        users=users.height,
        rank_correlation=float(rho.mean()) if len(rho) else float("nan"),
        users_without_correlation=users.height - len(rho),
        jaccard=float(np.mean(users["jaccard"].to_numpy())) if users.height else float("nan"),
    )


def _in_first(column: str, k: int) -> pl.Expr:
    """Chance of each candidate to be among its user's first `k` when ties are broken by chance."""
    above = pl.col(column).rank("min", descending=True).over(USER).cast(pl.Float64) - 1
    alike = pl.len().over(USER, column)
    return ((k - above) / alike).clip(0, 1)


def _columns(systems: Mapping[str, pl.DataFrame], metric: str) -> NDArray[np.float64]:
    frames = [frame.sort(USER) for frame in systems.values()]
    for name, frame in zip(systems, frames, strict=True):
        if not frame[USER].equals(frames[0][USER]):
            message = f"systems must be measured on the same users to be compared, but {name!r} is not"
            raise DataError(message)
    return np.stack([frame[metric].to_numpy() for frame in frames], axis=1).astype(np.float64)
