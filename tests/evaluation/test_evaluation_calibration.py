import numpy as np
import polars as pl
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from trsr.errors import DataError
from trsr.evaluation.calibration import calibrate, equal_mass_edges


def _world(users: int, bend: float = 1.0, seed: int = 0) -> tuple[pl.DataFrame, pl.DataFrame]:
    """21 candidates a user, of which one is the target with just the chance that its probability says."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(21, 0.3), size=users)
    column = np.array([rng.choice(21, p=row) for row in p])
    names = [f"u{number:05}" for number in range(users)]
    items = [f"i{place:02}" for place in range(21)]
    candidates = pl.DataFrame({"user_id": names, "target": [items[place] for place in column]})
    scores = pl.DataFrame(
        {"user_id": np.repeat(names, 21), "item_id": items * users, "score": (p**bend).clip(0, 1).ravel()}
    )
    return candidates, scores


def test_true_probabilities_have_nearly_no_error() -> None:
    got = calibrate(*_world(3000), resamples=200, seed=0)
    assert got.ece_equal_mass.mean < 0.004
    assert got.ece_equal_width.mean < 0.004
    assert (got.users, got.pairs, got.base_rate) == (3000, 63000, pytest.approx(1 / 21))


def test_bent_probabilities_are_found_out() -> None:
    got = calibrate(*_world(3000, bend=0.5), resamples=200, seed=0)
    assert got.ece_equal_mass.low > 0.05
    assert got.ece_equal_mass.low < got.ece_equal_mass.mean < got.ece_equal_mass.high


def test_brier_score_and_log_loss_agree_with_scikit_learn() -> None:
    candidates, scores = _world(50)
    got = calibrate(candidates, scores, resamples=100, seed=0)
    joined = scores.join(candidates, on="user_id")
    truth = (joined["item_id"] == joined["target"]).to_numpy()
    p = joined["score"].to_numpy().clip(1e-12, 1 - 1e-12)
    assert got.brier.mean == pytest.approx(brier_score_loss(truth, p))
    assert got.log_loss.mean == pytest.approx(log_loss(truth, p))


def test_bins_by_hand() -> None:
    candidates = pl.DataFrame({"user_id": ["u", "v"], "target": ["a", "b"]})
    scores = pl.DataFrame(
        {"user_id": ["u", "u", "v", "v"], "item_id": ["a", "b", "a", "b"], "score": [0.9, 0.1, 0.7, 0.3]}
    )
    got = calibrate(candidates, scores, resamples=100, seed=0, bins=2)
    low, high = got.equal_width
    assert (low.low, low.high, low.pairs, low.observed) == (0.0, 0.5, 2, 0.5)
    assert low.predicted == pytest.approx(0.2)
    assert (high.pairs, high.observed) == (2, 0.5)
    assert high.predicted == pytest.approx(0.8)
    assert got.ece_equal_width.mean == pytest.approx(0.3)
    assert [(b.pairs, b.observed) for b in got.equal_mass] == [(2, 0.5), (2, 0.5)]


def test_bins_of_equal_mass_hold_about_the_same_number_of_pairs() -> None:
    got = calibrate(*_world(500), resamples=100, seed=0)
    assert len(got.equal_mass) == 10
    assert {b.pairs for b in got.equal_mass} <= {1049, 1050, 1051}
    assert sum(b.pairs for b in got.equal_width) == 500 * 21


def test_equal_probabilities_share_a_bin() -> None:
    candidates, scores = _world(40)
    got = calibrate(candidates, scores.with_columns(score=pl.lit(1 / 21)), resamples=100, seed=0)
    assert [b.pairs for b in got.equal_mass] == [840]
    assert got.ece_equal_mass.mean == pytest.approx(0, abs=1e-12)
    assert equal_mass_edges(np.zeros(5), 3).tolist() == [0.0]
    zeros = calibrate(candidates, scores.with_columns(score=pl.lit(0.0)), resamples=100, seed=0)
    assert zeros.ece_equal_mass.mean == pytest.approx(1 / 21)


def test_the_interval_is_over_users_not_pairs() -> None:
    # Twenty copies of each candidate make pairs more, not users: the interval must not shrink.
    candidates, scores = _world(60, bend=0.5)
    once = calibrate(candidates, scores, resamples=400, seed=0)
    copies = calibrate(candidates, pl.concat([scores] * 20), resamples=400, seed=0)
    assert (copies.users, copies.pairs) == (once.users, 20 * once.pairs)
    for name in ("ece_equal_width", "brier", "log_loss"):
        one, many = getattr(once, name), getattr(copies, name)
        assert many.high - many.low == pytest.approx(one.high - one.low, rel=1e-6)


@pytest.mark.parametrize("bad", [1.2, -0.1, float("nan")])
def test_scores_that_are_no_probabilities_are_refused(bad: float) -> None:
    candidates, scores = _world(2)
    broken = scores.with_columns(
        pl.Series("score", [bad, *scores["score"][1:]]), pl.col("user_id"), pl.col("item_id")
    )
    with pytest.raises(DataError, match=r"must lie in 0 to 1, got .* user 'u00000', item 'i00'"):
        calibrate(candidates, broken, resamples=100, seed=0)


def test_a_target_without_a_probability_is_refused() -> None:
    candidates, scores = _world(3)
    user, target = candidates.row(1)
    left = scores.filter(~((pl.col("user_id") == user) & (pl.col("item_id") == target)))
    with pytest.raises(DataError, match=r"1 have none, such as that of user 'u00001'"):
        calibrate(candidates, left, resamples=100, seed=0)


def test_no_user_is_refused() -> None:
    candidates, scores = _world(2)
    with pytest.raises(DataError, match="at least one user"):
        calibrate(candidates.clear(), scores, resamples=100, seed=0)
