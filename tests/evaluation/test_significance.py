import itertools

import numpy as np
import polars as pl
import pytest

from trsr.errors import DataError
from trsr.evaluation import statistics as significance
from trsr.evaluation.statistics import all_pairs, holm, paired_tests, sign_flip_p, trend, with_reference


def _frame(values: np.ndarray, name: str = "AUC") -> pl.DataFrame:
    return pl.DataFrame({"user_id": [f"u{number:04}" for number in range(len(values))], name: values})


def test_p_is_that_of_all_sign_patterns() -> None:
    differences = np.array([0.5, 0.3, -0.2, 0.4, 0.1, 0.6, -0.1, 0.2])
    patterns = np.array(list(itertools.product((-1, 1), repeat=8)))
    exact = (np.abs(patterns @ differences) >= differences.sum() - 1e-9).mean()
    [p] = sign_flip_p(differences[:, None], flips=40_000, seed=0)
    assert p == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 40_000))


def test_p_is_two_sided_and_never_zero() -> None:
    differences = np.full((200, 1), 0.3)
    assert sign_flip_p(differences, flips=999).tolist() == [1 / 1000]
    assert sign_flip_p(-differences, flips=999).tolist() == [1 / 1000]


def test_without_a_difference_p_is_uniform() -> None:
    rng = np.random.default_rng(0)
    p = sign_flip_p(rng.standard_normal((60, 400)), flips=999, seed=1)
    for level in (0.05, 0.2, 0.5):
        assert (p <= level).mean() == pytest.approx(level, abs=3.5 * np.sqrt(level * (1 - level) / 400))


def test_blocks_of_flips_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = np.random.default_rng(0).standard_normal((30, 2)) + 0.2
    whole = sign_flip_p(differences, flips=500, seed=3)
    monkeypatch.setattr(significance, "_CELLS_A_BLOCK", 30 * 100)
    # Signs are drawn in one stream; blocks only cut it.
    assert sign_flip_p(differences, flips=500, seed=3) == pytest.approx(whole, abs=1e-12)


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [
        ([0.01], [0.01]),
        ([0.01, 0.02, 0.03], [0.03, 0.04, 0.04]),
        ([0.5, 0.6, 0.001], [1.0, 1.0, 0.003]),
        ([0.04, 0.01, 0.03, 0.005], [0.06, 0.03, 0.06, 0.02]),
        ([], []),
    ],
)
def test_holm_by_hand(p: list[float], adjusted: list[float]) -> None:
    assert holm(p).tolist() == pytest.approx(adjusted)


def test_a_pair_in_full() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(300)
    better = base.copy()
    better[:40] += 0.2
    better[40:50] -= 0.1
    [test] = paired_tests({"a": _frame(better), "b": _frame(base)}, [("a", "b")], ["AUC"])
    assert (test.users, test.wins, test.losses, test.ties) == (300, 40, 10, 250)
    assert test.difference.mean == pytest.approx((40 * 0.2 - 10 * 0.1) / 300)
    assert test.difference.low > 0
    assert test.p < 0.001
    assert test.p_holm == test.p
    [turned] = paired_tests({"a": _frame(better), "b": _frame(base)}, [("b", "a")], ["AUC"])
    assert (turned.wins, turned.losses) == (10, 40)
    assert turned.difference.mean == pytest.approx(-test.difference.mean)
    assert turned.p == test.p


def test_pairing_finds_what_overlapping_intervals_hide() -> None:
    rng = np.random.default_rng(1)
    base = rng.random(200)
    [test] = paired_tests({"a": _frame(base + 0.02), "b": _frame(base)}, [("a", "b")], ["AUC"])
    assert 1.96 * base.std() / np.sqrt(200) > 0.02
    assert test.p < 0.001


def test_holm_goes_over_all_pairs_and_metrics_of_a_call() -> None:
    rng = np.random.default_rng(2)
    names = ["a", "b", "c"]
    systems = {
        name: _frame(rng.random(100)).with_columns(pl.Series("NDCG@3", rng.random(100))) for name in names
    }
    tests = paired_tests(systems, with_reference(names, "a"), ["AUC", "NDCG@3"], flips=500)
    assert [(test.metric, test.second) for test in tests] == [
        ("AUC", "b"),
        ("AUC", "c"),
        ("NDCG@3", "b"),
        ("NDCG@3", "c"),
    ]
    assert [test.p_holm for test in tests] == pytest.approx(holm([test.p for test in tests]).tolist())
    assert len(paired_tests(systems, all_pairs(names), ["AUC"], flips=100)) == 3


def test_order_of_rows_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    first, second = _frame(rng.random(50)), _frame(rng.random(50))
    want = paired_tests({"a": first, "b": second}, [("a", "b")], ["AUC"])
    assert paired_tests({"a": first.reverse(), "b": second}, [("a", "b")], ["AUC"]) == want


def test_what_can_not_be_compared_is_refused() -> None:
    systems = {"a": _frame(np.ones(5)), "b": _frame(np.ones(4)), "c": _frame(np.ones(5), "AUC (catalogue)")}
    with pytest.raises(DataError, match="same users"):
        paired_tests(systems, [("a", "b")], ["AUC"])
    with pytest.raises(DataError, match="another protocol"):
        paired_tests(systems, [("a", "c")], ["AUC"])
    with pytest.raises(DataError, match="no system 'z'"):
        paired_tests(systems, [("a", "z")], ["AUC"])
    with pytest.raises(DataError, match="at least one user"):
        sign_flip_p(np.empty((0, 1)))


def test_a_gain_that_grows_with_length_is_told_from_one_that_doesnt() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(5, 60, size=300)
    noise = rng.normal(0, 0.3, 300)
    ranks = np.argsort(np.argsort(lengths, kind="stable")) / 299
    slope, p = trend(noise + 0.4 * ranks, lengths, resamples=300, flips=500)
    assert 0 < slope.low < slope.mean < slope.high
    assert p < 0.01
    flat, p = trend(noise, lengths, resamples=300, flips=500)
    assert slope.mean - flat.mean == pytest.approx(0.4, abs=0.01)
    assert p > 0.05


def test_a_slope_is_that_of_least_squares_over_ranks() -> None:
    slope, _ = trend([0.0, 0.3, 0.1], [7, 90, 8], resamples=100, flips=99)
    assert slope.mean == pytest.approx(0.3)  # ranks 0, 1 and 1/2
    tied, _ = trend([0.0, 0.2, 0.5], [1, 1, 2], resamples=100, flips=99)
    assert tied.mean == pytest.approx(0.4 / 0.75)  # ranks 1/4, 1/4 and 1


def test_nothing_grows_where_all_are_alike() -> None:
    slope, p = trend([0.1, 0.2], [4, 4])
    assert np.isnan([slope.mean, slope.low, slope.high]).all()
    assert p == 1
