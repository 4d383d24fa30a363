"""All systems in one table, each metric with its interval, and the choice of one on validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from trsr.config.data import CandidateRule
from trsr.config.ranking import Evaluation
from trsr.errors import DataError
from trsr.evaluation.metrics import TIED, metric_names, metrics_at, user_metrics
from trsr.evaluation.statistics import Estimate, bootstrap_means
from trsr.records import SPLIT, USER, Split


@dataclass(frozen=True, slots=True)
class Result:
    """One system on one split.

    Parameters
    ----------
    tie_rate
        Share of users whose target has the same score as another candidate.
    metrics
        ``Recall@3`` and so on, and ``AUC``, each with its 95% interval.
    """

    users: int
    tie_rate: float
    metrics: Mapping[str, Estimate]


def evaluate(
    candidates: pl.DataFrame, scores: pl.DataFrame, evaluation: Evaluation, seed: int
) -> dict[str, Result]:
    """Measure one system on every split that the candidates hold, by the name of the split.

    Candidates have `USER`, `SPLIT`, `TARGET` and `CANDIDATES` of the users to be measured; scores have
    `USER`, `ITEM` and `SCORE`. Raises `DataError` when they don't fit; see `user_metrics`.
    """
    per_user = user_metrics(candidates, scores, metrics_at(evaluation.ks, evaluation.metrics))
    return {
        str(split): summarise(rows, evaluation.bootstrap, seed)
        for (split,), rows in per_user.sort(SPLIT, USER).group_by(SPLIT, maintain_order=True)
    }


def summarise(per_user: pl.DataFrame, resamples: int, seed: int) -> Result:
    """Take the mean over users last, with intervals from resamples of users.

    `per_user` is of one split, as `user_metrics` gives it; `TIED` may be a share of seeds.
    """
    names = metric_names(per_user)
    estimates = bootstrap_means(per_user.select(names).to_numpy(), resamples, seed)
    tied = float(per_user[TIED].clip(0, 1).sum())
    return Result(per_user.height, tied / per_user.height, dict(zip(names, estimates, strict=True)))


def to_json(systems: Mapping[str, Mapping[str, Result]], rule: CandidateRule) -> dict[str, Any]:
    """Put results, by system and split, into the form of ``metrics.json``.

    `rule` says how the candidates were drawn.

    Examples
    --------
    >>> result = Result(2, 0.0, {"Recall@3": Estimate(0.5, 0.0, 1.0)})
    >>> to_json({"random": {"test": result}}, CandidateRule())["systems"]["random"]["test"]["metrics"]
    {'Recall@3': {'mean': 0.5, 'low': 0.0, 'high': 1.0}}
    """
    return {
        "sampler": rule.sampler,
        "negatives": rule.negatives,
        "systems": {
            name: {split: asdict(result) for split, result in by_split.items()}
            for name, by_split in systems.items()
        },
    }


def choose(systems: Mapping[str, Mapping[str, Result]], metric: str) -> str:
    """Return the system whose mean of `metric`, such as ``NDCG@10``, is highest on the validation split.

    Systems are names to results by split, as `evaluate` gives them. Results of other splits may be there and
    are not read. Of equal means the first in the order of `systems` is taken.

    Raises
    ------
    DataError
        When there is no system, or one lacks the validation split or the metric.

    Examples
    --------
    >>> from trsr.evaluation.statistics import Estimate
    >>> def of(mean): return Result(9, 0.0, {"NDCG@10": Estimate(mean, mean, mean)})
    >>> first = {"valid": of(0.4), "test": of(0.9)}
    >>> choose({"a": first, "b": {"valid": of(0.5), "test": of(0.1)}}, "NDCG@10")
    'b'
    """
    if not systems:
        message = "there is no system to choose from"
        raise DataError(message)
    means = {}
    for name, by_split in systems.items():
        result = by_split.get(Split.VALID.value)
        if result is None:
            message = (
                f"system {name!r} was not measured on the validation split, so it can't be chosen or not"
            )
            raise DataError(message)
        if metric not in result.metrics:
            held = ", ".join(result.metrics) or "none"
            message = f"system {name!r} has no {metric} on the validation split, but {held}"
            raise DataError(message)
        means[name] = result.metrics[metric].mean
    return max(means, key=means.__getitem__)
