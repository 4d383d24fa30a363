import numpy as np
import polars as pl
import pytest

from trsr.evaluation.metrics import metrics_frame
from trsr.evaluation.scoreboard import RULES, SliceCuts, default_cuts, slice_results, slices

HISTORIES = pl.DataFrame(
    {
        "user_id": ["d", "a", "b", "c"],
        "history": [["hit"], ["x"] * 3, ["x", "seldom"], ["x"] * 5],
        "target": ["hit", "unseen", "seldom", "often"],
    }
)
ITEMS = ["unseen", "seldom", "often", "hit", "x"]
COUNTS = [0, 2, 5, 90, 3]
CUTS = SliceCuts(rare=2, middling=5, short=2)


def _users(frame: pl.DataFrame, name: str) -> list[str]:
    return frame.filter(name)["user_id"].to_list()


def test_by_hand() -> None:
    got = slices(HISTORIES, ITEMS, COUNTS, CUTS)
    assert got.columns == ["user_id", *RULES]
    assert {name: _users(got, name) for name in RULES} == {
        "cold": ["a"],
        "rare": ["b"],
        "middling": ["c"],
        "popular": ["d"],
        "repeat": ["b", "d"],
        "new": ["a", "c"],
        "short history": ["b", "d"],
        "long history": ["a", "c"],
    }


def test_an_item_outside_the_catalogue_is_cold() -> None:
    got = slices(HISTORIES.with_columns(target=pl.lit("elsewhere")), ITEMS, COUNTS, CUTS)
    assert _users(got, "cold") == ["a", "b", "c", "d"]


@pytest.mark.parametrize("seed", range(5))
def test_popularity_and_length_and_repeats_each_part_all_users(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ids = [f"i{number}" for number in range(60)]
    counts = rng.zipf(1.5, size=60).clip(0, 500) - 1
    rows = [
        {
            "user_id": f"u{n:03}",
            "history": rng.choice(ids, rng.integers(1, 9)).tolist(),
            "target": ids[n % 60],
        }
        for n in range(150)
    ]
    got = slices(pl.DataFrame(rows), ids, counts)
    for names in (
        ["cold", "rare", "middling", "popular"],
        ["repeat", "new"],
        ["short history", "long history"],
    ):
        assert got.select(pl.sum_horizontal(names)).to_series().to_list() == [1] * 150


def test_thirds_are_of_training_interactions() -> None:
    counts = np.arange(1, 1001)
    cuts = default_cuts(HISTORIES, counts)
    assert counts[counts <= cuts.rare].sum() / counts.sum() == pytest.approx(1 / 3, abs=2e-3)
    assert counts[counts > cuts.middling].sum() / counts.sum() == pytest.approx(1 / 3, abs=2e-3)


def test_without_training_interactions_all_targets_are_cold() -> None:
    assert default_cuts(HISTORIES, [0, 0]) == SliceCuts(0, 0, 2)
    assert _users(slices(HISTORIES, ITEMS, [0] * 5), "cold") == ["a", "b", "c", "d"]


def test_metrics_of_a_slice_are_those_of_its_users_and_few_users_are_marked() -> None:
    users = [f"u{number:02}" for number in range(30)]
    values = np.arange(30.0)
    per_user = metrics_frame(users, ["test"] * 30, [0] * 30, {"AUC": values})
    membership = pl.DataFrame(
        {
            "user_id": [*users, "other"],
            "first": [*[True] * 25, *[False] * 5, True],
            "few": [*[False] * 28, True, True, True],
            "nobody": [False] * 31,
        }
    )
    got = slice_results(per_user, membership, 200, 0)
    assert (got["first"].users, got["first"].few) == (25, False)
    assert got["first"].result.metrics["AUC"].mean == pytest.approx(12)
    assert got["first"].result.metrics["AUC"].low < 12 < got["first"].result.metrics["AUC"].high
    assert (got["few"].users, got["few"].few) == (2, True)
    assert got["few"].result.metrics["AUC"].mean == pytest.approx(28.5)
    assert (got["nobody"].users, got["nobody"].few, got["nobody"].result) == (0, True, None)
