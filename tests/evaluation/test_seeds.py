import numpy as np
import polars as pl
import pytest

from trsr.errors import DataError
from trsr.evaluation.metrics import metrics_frame
from trsr.evaluation.scoreboard import summarise
from trsr.evaluation.statistics import average_seeds, seed_spread


def _run(values: list[float], tied: list[int] | None = None) -> pl.DataFrame:
    users = [f"u{number}" for number in range(len(values))]
    return metrics_frame(users, ["test"] * len(values), tied or [0] * len(values), {"AUC": np.array(values)})


def test_a_user_counts_once_however_many_seeds_there_are() -> None:
    runs = [_run([0.0, 1.0, 1.0]), _run([1.0, 1.0, 1.0]).reverse(), _run([0.5, 0.4, 1.0])]
    got = average_seeds(runs)
    assert got["user_id"].to_list() == ["u0", "u1", "u2"]
    assert got["AUC"].to_list() == pytest.approx([0.5, 0.8, 1.0])
    assert summarise(got, 100, 0).users == 3


def test_the_interval_is_that_of_users_and_does_not_shrink_with_equal_seeds() -> None:
    values = np.random.default_rng(0).random(80).tolist()
    one = summarise(_run(values), 500, 0).metrics["AUC"]
    many = summarise(average_seeds([_run(values)] * 9), 500, 0).metrics["AUC"]
    assert (many.low, many.high) == (pytest.approx(one.low), pytest.approx(one.high))


def test_ties_are_the_mean_over_seeds() -> None:
    runs = [_run([0.5, 0.5], [4, 0]), _run([0.5, 0.5], [0, 0])]
    assert summarise(average_seeds(runs), 100, 0).tie_rate == pytest.approx(0.25)


def test_spread_is_told_apart() -> None:
    spread = seed_spread([_run([0.2, 0.4]), _run([0.4, 0.6]), _run([0.6, 0.8])])["AUC"]
    assert spread.means == pytest.approx((0.3, 0.5, 0.7))
    assert (spread.low, spread.high) == (pytest.approx(0.3), pytest.approx(0.7))
    assert spread.sd == pytest.approx(0.2)
    assert np.isnan(seed_spread([_run([0.2])])["AUC"].sd)


def test_seeds_of_other_users_or_metrics_are_refused() -> None:
    with pytest.raises(DataError, match="same frozen candidates"):
        average_seeds([_run([0.1, 0.2]), _run([0.1])])
    with pytest.raises(DataError, match="columns"):
        average_seeds([_run([0.1]), _run([0.1]).rename({"AUC": "MRR@3"})])
    with pytest.raises(DataError, match="at least one run"):
        average_seeds([])
