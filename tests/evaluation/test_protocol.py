"""Traps of the protocol, each met before: what must not raise a figure, and by how much it would."""

import csv
import io
from itertools import pairwise
from pathlib import Path
from typing import get_args

import numpy as np
import polars as pl
import pytest
from scipy.stats import chisquare

from trsr.config import Config, load
from trsr.config.data import Amazon5CoreData, CandidateRule, DemoData, HistoryWindow, SplitRule
from trsr.config.evaluation import Drawn
from trsr.config.ranking import Evaluation
from trsr.data.candidates import draw_candidates, training_counts
from trsr.data.prepare import Prepared, prepare
from trsr.errors import ConfigError
from trsr.evaluation.catalogue import place_in_catalogue, sampled_expectation
from trsr.evaluation.metrics import expected_metrics, metrics_at, place_target, user_metrics
from trsr.evaluation.scoreboard import slices

KS = (1, 3, 10)


@pytest.fixture(scope="module")
def shop() -> Prepared:
    window = HistoryWindow(min=5, max=26)
    return prepare(
        Config(
            data=DemoData(users=1200, items=400),
            history=window,
            split=SplitRule(by="hash", valid=0.2, test=0.5),
        )
    )


def _measured(shop: Prepared) -> pl.DataFrame:
    return shop.candidates.filter(pl.col("split") != "train")


def _by_item(shop: Prepared, values: np.ndarray, candidates: pl.DataFrame) -> pl.DataFrame:
    table = shop.items.select("item_id").with_columns(pl.Series("score", values, dtype=pl.Float64))
    pairs = candidates.select("user_id", pl.col("candidates").alias("item_id")).explode("item_id")
    return pairs.join(table, on="item_id", how="left", maintain_order="left")


def _recall(shop: Prepared, values: np.ndarray) -> float:
    test = _measured(shop).filter(pl.col("split") == "test")
    return float(user_metrics(test, _by_item(shop, values, test), metrics_at((3,)))["Recall@3"].mean())


def test_counts_that_include_measured_targets_inflate_popularity() -> None:
    # A sparse shop, as real ones are: most items are taken a few times.
    sparse = prepare(
        Config(
            data=DemoData(users=400, items=1200),
            history=HistoryWindow(min=5, max=26),
            split=SplitRule(valid=0.2, test=0.5),
        )
    )
    ids = sparse.items["item_id"].to_list()
    honest = training_counts(sparse.histories, ids, sparse.background)
    test = sparse.histories.filter(pl.col("split") == "test")
    targets = test.select(pl.concat_list("target").alias("item_ids"))
    leaking = training_counts(
        sparse.histories, ids, pl.concat([sparse.background.select("item_ids"), targets])
    )
    assert leaking.sum() == honest.sum() + test.height
    assert _recall(sparse, leaking) > _recall(sparse, honest) + 0.05


def test_honest_counts_do_not_know_the_measured_targets(shop: Prepared) -> None:
    ids = shop.items["item_id"].to_list()
    honest = training_counts(shop.histories, ids, shop.background)
    other = shop.histories.with_columns(
        pl.when(pl.col("split") == "train")
        .then("target")
        .otherwise(pl.col("target").reverse())
        .alias("target")
    )
    assert training_counts(other, ids, shop.background).tolist() == honest.tolist()


def test_negatives_from_a_window_of_popularity_are_not_offered() -> None:
    assert set(get_args(Drawn)) == {"uniform", "popularity"}  # all others are given, not drawn
    with pytest.raises(ConfigError, match="sampler"):
        load(overrides={"candidates.sampler": "window"})


@pytest.mark.parametrize("sampler", get_args(Drawn))
def test_the_list_alone_does_not_tell_the_target_by_its_place_in_it(sampler: str, shop: Prepared) -> None:
    ids = shop.items["item_id"].to_list()
    counts = training_counts(shop.histories, ids, shop.background)
    place = np.argsort(np.argsort(counts, kind="stable"))
    rule = CandidateRule(sampler=sampler)
    drawn = draw_candidates(shop.histories, shop.items, rule, 3, shop.background)
    test = drawn.filter(pl.col("split") == "test")

    def middle_first(frame: pl.DataFrame) -> float:
        scores = _by_item(shop, place, frame).with_columns(
            -(pl.col("score") - pl.col("score").median().over("user_id")).abs()
        )
        return float(user_metrics(frame, scores, metrics_at((3,)))["Recall@3"].mean())

    chance, error = 3 / 21, np.sqrt(3 / 21 * 18 / 21 / test.height)
    assert middle_first(test) < chance + 3 * error
    # The same guess finds the target when negatives come from its neighbours by popularity.
    order = np.argsort(place)
    near = [
        [ids[order[int(p)]] for p in np.clip(np.arange(at - 10, at + 11), 0, len(ids) - 1)]
        for at in (place[ids.index(target)] for target in test["target"])
    ]
    windowed = test.with_columns(pl.Series("candidates", near)).filter(
        pl.col("candidates").list.n_unique() == 21
    )
    assert middle_first(windowed) > 0.9


def test_rolling_rows_of_a_user_never_lie_in_two_splits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    items = [str(number) for number in range(60)]
    rows = []
    for user in range(80):
        history = rng.choice(items, rng.integers(5, 10), replace=False).tolist()
        rows += [(f"U{user}", history[:end], history[end]) for end in range(2, len(history))]
    (tmp_path / "items.json").write_text(
        "{" + ",\n".join(f'"{item}": {{"title": "Thing {item}"}}' for item in items) + "}"
    )
    rows.sort(key=lambda row: len(row[1]))
    for part, name in enumerate(("train", "valid", "test")):
        stream = io.StringIO()
        writer = csv.writer(stream)
        writer.writerow(["user_id", "history_item_title", "item_title", "history_item_id", "item_id"])
        for user, history, target in rows[part::3]:
            ids = ", ".join(history)
            writer.writerow(
                [user, f"{[f'Thing {i}' for i in history]}", f"Thing {target}", f"[{ids}]", target]
            )
        (tmp_path / f"{name}.csv").write_text(stream.getvalue(), encoding="utf-8")
    made = prepare(
        Config(
            data=Amazon5CoreData(format="amazon_5core", path=tmp_path),
            history=HistoryWindow(min=4, max=26),
            candidates=CandidateRule(negatives=10),
            split=SplitRule(valid=0.25, test=0.25),
        )
    )
    assert made.histories["user_id"].is_unique().all()
    assert made.histories["user_id"].n_unique() + made.background["user_id"].n_unique() == 80
    measured = made.histories.filter(pl.col("split") != "train")["user_id"]
    learnt_from = pl.concat(
        [made.histories.filter(pl.col("split") == "train")["user_id"], made.background["user_id"]]
    )
    assert not set(measured) & set(learnt_from)


def test_repeated_targets_are_a_free_flag_and_have_their_slice(shop: Prepared) -> None:
    half = shop.histories.with_row_index("row").with_columns(
        pl.when(pl.col("row") % 2 == 0)
        .then(pl.col("history").list.first())
        .otherwise(pl.col("target"))
        .alias("target")
    )
    candidates = draw_candidates(half, shop.items, CandidateRule(), 0)
    pairs = candidates.select("user_id", pl.col("candidates").alias("item_id")).explode("item_id")
    flagged = pairs.join(half.select("user_id", "history"), on="user_id").select(
        "user_id",
        "item_id",
        pl.col("history").list.contains(pl.col("item_id")).cast(pl.Float64).alias("score"),
    )
    got = user_metrics(candidates, flagged, metrics_at((1,)))
    ids = shop.items["item_id"].to_list()
    member = slices(half, ids, training_counts(half, ids))
    repeats = got.join(member.filter("repeat"), on="user_id", how="semi")
    assert repeats.height >= half.height // 2
    assert repeats["Recall@1"].min() == 1
    new = got.join(member.filter("new"), on="user_id", how="semi")
    assert new["Recall@1"].to_list() == pytest.approx([1 / 21] * new.height)


def test_the_target_stands_anywhere_among_its_candidates(shop: Prepared) -> None:
    at = shop.candidates.select(
        pl.col("candidates").list.eval(pl.element()).list.len(),
        pl.struct("candidates", "target")
        .map_elements(lambda row: row["candidates"].index(row["target"]), return_dtype=pl.Int64)
        .alias("column"),
    )["column"].to_numpy()
    assert chisquare(np.bincount(at, minlength=21)).pvalue > 1e-3


def test_a_constant_scorer_gets_k_in_21_for_every_user_and_k(shop: Prepared) -> None:
    measured = _measured(shop)
    flat = _by_item(shop, np.zeros(shop.items.height), measured)
    got = user_metrics(measured, flat, metrics_at(range(1, 22)))
    for k in range(1, 22):
        assert got[f"Recall@{k}"].unique().to_list() == [k / 21]
    assert got["AUC"].unique().to_list() == [0.5]


def test_recall_never_falls_with_k_and_mrr_and_ndcg_stay_below_it(shop: Prepared) -> None:
    measured = _measured(shop)
    values = np.random.default_rng(0).integers(0, 9, shop.items.height)
    got = user_metrics(measured, _by_item(shop, values, measured), metrics_at(KS))
    for low, high in pairwise(KS):
        assert (got[f"Recall@{low}"] <= got[f"Recall@{high}"] + 1e-12).all()
    for k in KS:
        assert (got[f"MRR@{k}"] <= got[f"NDCG@{k}"] + 1e-12).all()
        assert (got[f"NDCG@{k}"] <= got[f"Recall@{k}"] + 1e-12).all()


def test_sampled_figures_agree_with_their_exact_expectation(shop: Prepared) -> None:
    """Popularity, with all its ties, on the frozen candidates and by its ranks in the whole catalogue."""
    ids = shop.items["item_id"].to_list()
    counts = training_counts(shop.histories, ids, shop.background).astype(float)
    measured = _measured(shop)
    sampled = user_metrics(measured, _by_item(shop, counts, measured), metrics_at(KS))
    users = shop.histories.join(measured, on="user_id", how="semi").sort("user_id")
    place = {name: at for at, name in enumerate(ids)}
    ranks = place_in_catalogue(
        np.tile(counts, (users.height, 1)),
        [place[name] for name in users["target"]],
        [[place[name] for name in history] for history in users["history"]],
    )
    exact = sampled_expectation(ranks, 20, metrics_at(KS))
    for name in ("Recall@1", "Recall@3", "Recall@10", "MRR@10", "NDCG@10", "AUC"):
        difference = sampled[name].to_numpy() - exact[f"{name} (expected)"]
        # What is left is the noise of the one draw, which is smaller than that of the users.
        error = difference.std() / np.sqrt(len(difference))
        assert abs(difference.mean()) < 3.5 * error, name
        assert error < sampled[name].std() / np.sqrt(len(difference))


def test_evaluation_offers_the_cutoffs_of_the_paper() -> None:
    assert Evaluation().ks == (3, 5, 10)
    above, tied = place_target([[1.0, 0.0]], [0])
    assert set(expected_metrics(above, tied, 1, metrics_at(Evaluation().ks))) - {"AUC"} == {
        f"{family}@{k}" for family in ("Recall", "MRR", "NDCG") for k in (3, 5, 10)
    }
