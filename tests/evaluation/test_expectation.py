"""The exact expectation of sampled metrics: by enumeration, by scipy, and by drawing candidates for real."""

from itertools import combinations

import numpy as np
import polars as pl
import pytest
from scipy.stats import hypergeom

from trsr.config.data import CandidateRule
from trsr.data.candidates import draw_candidates
from trsr.errors import DataError
from trsr.evaluation import catalogue as expectation
from trsr.evaluation.catalogue import CatalogueRanks, place_in_catalogue, sampled_expectation
from trsr.evaluation.metrics import expected_metrics, metrics_at, user_metrics


def _ranks(above: list[int], tied: list[int], others: list[int]) -> CatalogueRanks:
    return CatalogueRanks(np.array(above), np.array(tied), np.array(others))


@pytest.mark.parametrize(("above", "tied"), [(0, 0), (3, 0), (2, 3), (0, 8), (7, 1), (8, 0)])
def test_agrees_with_the_mean_over_all_draws(above: int, tied: int) -> None:
    others, negatives = 8, 3
    kinds = ["above"] * above + ["tied"] * tied + ["below"] * (others - above - tied)
    draws = [[kinds[place] for place in drawn] for drawn in combinations(range(others), negatives)]
    over, level = ([drawn.count(kind) for drawn in draws] for kind in ("above", "tied"))
    got = sampled_expectation(_ranks([above], [tied], [others]), negatives, metrics_at((1, 2, 5)))
    for name, values in expected_metrics(over, level, negatives, metrics_at((1, 2, 5))).items():
        assert got[f"{name} (expected)"][0] == pytest.approx(values.mean(), abs=1e-12), name


def test_agrees_with_scipy_in_a_large_catalogue() -> None:
    above = [0, 10, 2_000, 150_000, 199_999]
    got = sampled_expectation(_ranks(above, [0] * 5, [200_000] * 5), 20, metrics_at((3,)))[
        "Recall@3 (expected)"
    ]
    want = hypergeom(200_000, np.array(above), 20).cdf(2)
    assert got == pytest.approx(want, rel=1e-6, abs=1e-12)


def test_the_binomial_form_is_near_and_not_the_same() -> None:
    # Drawing with replacement: fine in a large catalogue, too wide a spread in a small one.
    exact = sampled_expectation(_ranks([15], [0], [60]), 20, metrics_at((3,)))["Recall@3 (expected)"][0]
    share = 15 / 60
    binomial = sum(
        np.prod(np.arange(20, 20 - x, -1)) / np.prod(np.arange(1, x + 1)) * share**x * (1 - share) ** (20 - x)
        for x in range(3)
    )
    assert binomial > exact + 0.02


def test_users_of_different_pools_are_kept_apart() -> None:
    together = sampled_expectation(_ranks([5, 0, 9], [0, 3, 2], [30, 25, 30]), 20, metrics_at((3, 10)))
    for user, (above, tied, others) in enumerate([(5, 0, 30), (0, 3, 25), (9, 2, 30)]):
        alone = sampled_expectation(_ranks([above], [tied], [others]), 20, metrics_at((3, 10)))
        for name, values in alone.items():
            assert together[name][user] == pytest.approx(values[0], abs=1e-12)


def test_a_constant_scorer_gets_3_in_21_whatever_the_catalogue() -> None:
    got = sampled_expectation(_ranks([0], [500], [500]), 20, metrics_at((3,)))
    assert got["Recall@3 (expected)"][0] == pytest.approx(3 / 21)
    assert got["AUC (expected)"][0] == 0.5


def test_working_in_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = _ranks([0, 40, 7], [90, 2, 0], [120, 120, 100])
    whole = sampled_expectation(ranks, 20, metrics_at((3, 10)))
    monkeypatch.setattr(expectation, "_ROWS_A_BLOCK", 7)
    for name, values in sampled_expectation(ranks, 20, metrics_at((3, 10))).items():
        assert values == pytest.approx(whole[name], abs=1e-12)


def test_too_few_items_to_draw_from_are_refused() -> None:
    with pytest.raises(DataError, match="20 negatives can't be drawn from 19 items"):
        sampled_expectation(_ranks([0, 0], [0, 0], [30, 19]), 20, metrics_at((3,)))


def test_no_users_give_no_figures() -> None:
    assert sampled_expectation(_ranks([], [], []), 20, metrics_at((3,)))["Recall@3 (expected)"].shape == (0,)


def test_drawn_candidates_come_to_the_expectation() -> None:
    """Monte Carlo over the real sampler, with ties, histories and a repeated target."""
    rng = np.random.default_rng(0)
    ids = [f"i{number:02}" for number in range(40)]
    scores = rng.integers(0, 12, size=40).astype(float)
    histories = pl.DataFrame(
        {
            "user_id": ["a", "b", "c", "d"],
            "split": ["test"] * 4,
            "history": [ids[:9], ids[5:15], ["i30"], ["i20", "i21", "i20"]],
            "target": ["i20", "i03", "i05", "i20"],
        }
    )
    table = pl.DataFrame({"item_id": ids, "score": scores})
    places = {name: place for place, name in enumerate(ids)}
    ranks = place_in_catalogue(
        np.tile(scores, (4, 1)),
        [places[name] for name in histories["target"]],
        [[places[name] for name in history] for history in histories["history"]],
    )
    want = sampled_expectation(ranks, 8, metrics_at((1, 3)))
    draws = 1500
    # Every copy of a user draws anew, as draws go by the user's id.
    copies = pl.concat(
        [
            histories.with_columns(pl.col("user_id") + pl.lit(f"-{number:04}", dtype=pl.String))
            for number in range(draws)
        ]
    )
    candidates = draw_candidates(copies, table.select("item_id"), CandidateRule(negatives=8), 0)
    pairs = candidates.select("user_id", pl.col("candidates").alias("item_id")).explode("item_id")
    measured = user_metrics(candidates, pairs.join(table, on="item_id"), metrics_at((1, 3)))
    for user, name in enumerate("abcd"):
        rows = measured.filter(pl.col("user_id").str.starts_with(name))
        assert rows.height == draws
        for metric in ("Recall@1", "Recall@3", "MRR@3", "NDCG@3", "AUC"):
            error = rows[metric].std() / np.sqrt(draws)
            assert rows[metric].mean() == pytest.approx(
                want[f"{metric} (expected)"][user], abs=4 * error + 1e-3
            )
