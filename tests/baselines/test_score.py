"""What holds for every baseline, and what each knows."""

import tracemalloc
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from baselines_shop import learnt_from, row

from trsr.baselines import base as module
from trsr.baselines.base import Baseline, open_baseline, score_catalogue, score_places
from trsr.baselines.training_data import candidate_places, places, training_data
from trsr.config import Config
from trsr.config.data import CandidateRule, DemoData
from trsr.config.ranking import Evaluation
from trsr.data.candidates import draw_candidates
from trsr.data.prepare import Prepared, prepare
from trsr.errors import ConfigError
from trsr.evaluation.metrics import metrics_at, user_metrics
from trsr.evaluation.scoreboard import evaluate
from trsr.registry import BASELINES

NAMES = ("random", "popularity", "itemknn", "tfidf", "bm25")
HELD = pl.col("split") != "train"


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(Config(data=DemoData(users=800, items=200)))


def learnt(name: str, prepared: Prepared, seed: int = 0) -> Baseline:
    baseline = open_baseline(name, seed)
    baseline.fit(training_data(prepared))
    return baseline


def score_candidates(baseline: Baseline, prepared: Prepared, candidates: pl.DataFrame) -> pl.DataFrame:
    """Score candidates that are given by names, in the order of the frame."""
    ids = prepared.items["item_id"]
    asked = candidates.select("user_id", "candidates").join(
        prepared.histories.select("user_id", "history"), on="user_id", how="left", maintain_order="left"
    )
    offered = candidate_places(asked["candidates"], ids)
    scores = score_places(baseline, asked["user_id"].to_list(), places(asked["history"], ids), offered)
    pairs = asked.select("user_id", pl.col("candidates").alias("item_id")).explode("item_id")
    return pairs.with_columns(pl.Series("score", scores.ravel(), dtype=pl.Float64))


def scored(name: str, prepared: Prepared, seed: int = 0) -> pl.DataFrame:
    return score_candidates(learnt(name, prepared, seed), prepared, prepared.candidates.filter(HELD))


@pytest.mark.parametrize("name", NAMES)
def test_every_candidate_is_scored_once(name: str, prepared: Prepared) -> None:
    scores = scored(name, prepared)
    wanted = prepared.candidates.filter(HELD)
    assert user_metrics(wanted, scores, metrics_at((3,))).height == wanted.height
    assert scores.schema == {"user_id": pl.String, "item_id": pl.String, "score": pl.Float64}
    assert set(scores["user_id"]) == set(wanted["user_id"])


@pytest.mark.parametrize("name", NAMES)
def test_targets_to_be_predicted_change_no_score(name: str, prepared: Prepared) -> None:
    moved_targets = pl.when(HELD).then(pl.col("target").sample(fraction=1.0, shuffle=True, seed=1))
    shuffled = prepared.histories.with_columns(moved_targets.otherwise("target"))
    assert not shuffled.equals(prepared.histories)
    assert scored(name, replace(prepared, histories=shuffled)).equals(scored(name, prepared))


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_candidates_changes_no_score(name: str, prepared: Prepared) -> None:
    turned = prepared.candidates.with_columns(pl.col("candidates").list.reverse()).reverse()
    pair = ["user_id", "item_id"]
    moved = scored(name, replace(prepared, candidates=turned)).sort(pair)
    assert moved.equals(scored(name, prepared).sort(pair))


@pytest.mark.parametrize("name", NAMES)
def test_the_catalogue_and_other_candidates_get_the_same_scores(
    name: str, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CELLS_A_BATCH", 7 * prepared.items.height)
    monkeypatch.setattr(module, "_USERS_A_BATCH", 11)
    baseline = learnt(name, prepared)
    rows = prepared.histories.filter(HELD)
    ids = prepared.items["item_id"]
    histories = places(rows["history"], ids)
    parts = list(score_catalogue(baseline, rows["user_id"].to_list(), histories, prepared.items.height))
    assert max(len(scores) for _, scores in parts) == 7
    whole = np.concatenate([scores for _, scores in parts])
    rule = CandidateRule(negatives=5, sampler="popularity")
    other = draw_candidates(prepared.histories, prepared.items, rule, seed=0).filter(HELD)
    sampled = score_candidates(baseline, prepared, other)
    index = {item: place for place, item in enumerate(ids)}
    row = {user: place for place, user in enumerate(rows["user_id"])}
    expected = [whole[row[user], index[item]] for user, item, _ in sampled.iter_rows()]
    assert sampled["score"].to_list() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_candidates_of_a_large_catalogue_are_scored_without_the_rest_of_it(name: str) -> None:
    size, users = 50_000, 1000
    titles = [f"thing {number % 97} of kind {number % 1009}" for number in range(size)]
    items = pl.DataFrame({"item_id": [str(number) for number in range(size)], "title": titles})
    lists = [list(map(str, row)) for row in np.random.default_rng(0).integers(0, size, (users, 30))]
    taken = pl.col("item_ids")
    frame = pl.DataFrame({"user_id": [f"u{number}" for number in range(users)], "item_ids": lists})
    split = pl.lit("train").alias("split")
    histories = frame.select("user_id", split, history=taken.list.head(8), target=taken.list.get(8))
    candidates = frame.select("user_id", split, candidates=taken.list.slice(9), target=taken.list.get(9))
    prepared = Prepared(items, histories, candidates, frame.clear(), ())
    baseline = learnt(name, prepared)
    tracemalloc.start()
    scores = score_candidates(baseline, prepared, candidates)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert scores.height == users * 21
    assert peak < users * size * 8 / 4, "all pairs of users and items would take 400 MB"


def test_every_name_of_the_configuration_opens() -> None:
    for name in BASELINES:
        made = open_baseline("embeddings(model='somewhere')" if name == "embeddings" else name, seed=0)
        assert made.kind() == name
        assert made.label
        assert made.description.endswith(".")


def test_random_has_chance_level_and_follows_the_seed(prepared: Prepared) -> None:
    first = score_candidates(learnt("random", prepared), prepared, prepared.candidates)
    metrics = user_metrics(prepared.candidates, first, metrics_at((3,)))
    # Chance is 3 / 21 = .143; the standard error over about 770 users is .0126.
    assert metrics["Recall@3"].mean() == pytest.approx(3 / 21, abs=0.04)
    assert not first.equals(score_candidates(learnt("random", prepared, 1), prepared, prepared.candidates))


def test_on_the_demo_data_the_floor_stands_in_the_expected_order(prepared: Prepared) -> None:
    wanted = prepared.candidates.filter(HELD)
    ndcg = {
        name: np.mean([r.metrics["NDCG@10"].mean for r in evaluate(wanted, scores, Evaluation(), 0).values()])
        for name in NAMES
        for scores in [scored(name, prepared)]
    }
    # Equal words tell next to nothing there, what goes with what tells most.
    assert ndcg["random"] < ndcg["popularity"] < ndcg["itemknn"]
    assert max(ndcg["tfidf"], ndcg["bm25"]) < ndcg["popularity"]


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no baseline 'tf-idf'; take one of random, .*tfidf.*embeddings"):
        open_baseline("tf-idf", seed=0)


@pytest.mark.parametrize("name", ["tfidf", "bm25", "sasrec", "sasrec_text", "caser"])
def test_items_of_equal_texts_that_training_never_saw_tie_to_the_last_bit(name: str) -> None:
    texts = [f"{colour} {thing}" for colour in ("red", "blue") for thing in ("mug", "lamp", "saw", "tea")] * 3
    cold = ["green mug"] * 3
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(27)], "title": [*texts, *cold]})
    draw = np.random.default_rng(0)
    baseline = open_baseline(name, seed=0)
    # At both ends and in the middle of a list: the places of a product of matrices.
    baseline.fit(learnt_from([draw.permutation(24)[:6].tolist() for _ in range(40)], items))
    users = [f"u{number}" for number in range(40)]
    histories = [row(*draw.permutation(24)[:3]) for _ in users]
    everything = baseline.score(users, histories)
    offered = np.stack(
        [row(24, *draw.permutation(24)[:11], 25, *draw.permutation(24)[:7], 26) for _ in users]
    )
    some = baseline.score(users, histories, offered)
    for scores, twins in ((everything, [24, 25, 26]), (some, [0, 12, 20])):
        assert np.ptp(scores[:, twins], axis=1).tolist() == [0.0] * 40
        assert np.ptp(scores) > 0
