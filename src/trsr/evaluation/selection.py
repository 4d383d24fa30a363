"""Choosing among systems, by the validation split and by nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from trsr.errors import DataError
from trsr.evaluation.scoreboard import Result
from trsr.records import Split


def choose(systems: Mapping[str, Mapping[str, Result]], metric: str) -> str:
    """Return the system whose mean is highest on the validation split.

    Results of other splits may be there and are not read. Of equal means the first
    in the order of `systems` is taken.

    Parameters
    ----------
    systems
        Name to results by split, as `evaluate` gives them.
    metric
        The metric to choose by, such as ``NDCG@10``.

    Raises
    ------
    DataError
        When there is no system, or one lacks the validation split or the metric.

    Examples
    --------
    >>> from trsr.evaluation.intervals import Estimate
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
