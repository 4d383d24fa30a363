from pathlib import Path

import polars as pl
import pytest

from small_run import small_config
from trsr import Recommender
from trsr.artifacts import RunFolder
from trsr.errors import ArtifactError, DataError
from trsr.pipeline import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    config = small_config(tmp_path_factory.mktemp("runs") / "small", training__epochs=1)
    return run(config, until="evaluate", say=lambda line: None)


@pytest.fixture(scope="module")
def recommender(folder: RunFolder) -> Recommender:
    return Recommender.load(folder.path)


def test_a_user_of_the_run_gets_the_scores_of_the_run(folder: RunFolder, recommender: Recommender) -> None:
    scores = pl.read_parquet(folder.scores)
    user = scores["user_id"][0]
    expected = dict(scores.filter(pl.col("user_id") == user).select("item_id", "p_yes").iter_rows())
    ranking = recommender.rank_user(user)
    assert {item.item_id: item.p_yes for item in ranking.items} == pytest.approx(expected, abs=1e-5)
    assert [item.p_yes for item in ranking.items] == pytest.approx(
        sorted(expected.values(), reverse=True), abs=1e-5
    )


def test_a_history_gives_the_summary_and_scores_that_the_run_gave(
    folder: RunFolder, recommender: Recommender
) -> None:
    row = pl.read_parquet(folder.histories).filter(pl.col("split") == "test").row(0, named=True)
    stored = pl.read_parquet(folder.summaries).filter(pl.col("user_id") == row["user_id"])["summary"][0]
    candidates = [row["target"], *row["history"][:2]]
    ranking = recommender.rank(history=row["history"], candidates=candidates, k=2)
    assert ranking.summary == stored
    assert len(ranking.items) == 2


def test_cold_items_are_ranked_by_their_text(recommender: Recommender) -> None:
    shown = {"title": "Walnut bench", "category": "Garden"}
    ranking = recommender.rank(history=[shown], candidates=[{"item_id": "new", **shown}, {"title": "Tap"}])
    assert {item.item_id for item in ranking.items} == {"new", "#2"}
    assert ranking.items[0].p_yes != ranking.items[1].p_yes


def test_a_user_without_history_gets_a_ranking_of_the_catalogue(recommender: Recommender) -> None:
    ranking = recommender.rank(history=[], k=3)
    assert ranking.summary == ""
    assert len({item.item_id for item in ranking.items}) == 3


def test_a_given_summary_is_used(recommender: Recommender) -> None:
    ranking = recommender.rank(history=[], candidates=[{"title": "Tap"}], summary="Likes taps.")
    assert ranking.summary == "Likes taps."


def test_a_field_that_no_item_has_is_told(recommender: Recommender) -> None:
    with pytest.raises(DataError, match=r"'titel'"):
        recommender.rank(history=[], candidates=[{"titel": "Tap"}])


def test_unknown_ids_users_and_empty_candidates_are_told(recommender: Recommender) -> None:
    with pytest.raises(DataError, match="nowhere"):
        recommender.rank(history=["nowhere"])
    with pytest.raises(DataError, match="no user 'nobody'"):
        recommender.rank_user("nobody")
    with pytest.raises(DataError, match="at least one item"):
        recommender.rank(history=[], candidates=[])


def test_an_unfinished_run_names_the_stage_to_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="trsr run"):
        Recommender.load(tmp_path)
    folder = run(small_config(tmp_path / "half"), until="prepare", say=lambda line: None)
    with pytest.raises(ArtifactError, match="trsr train"):
        Recommender.load(folder.path)
