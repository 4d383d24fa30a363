import gc
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import polars.testing
import pytest

from counting_server import counting_server
from small_run import small_config
from trsr import Recommender
from trsr.append import append_events
from trsr.artifacts import RunFolder
from trsr.bundle import save_bundle
from trsr.config import Config, dump, load
from trsr.config.load import load_run
from trsr.errors import ArtifactError, BudgetError, ConfigError, DataError, ModelError
from trsr.pipeline import run
from trsr.recommender import RankedBy
from trsr.summarize.store import Store
from trsr.summarize.summarizer import Summarizer

_LATER = 4_000_000_000
"""Seconds; after everything that the shop has seen."""


@pytest.fixture(scope="module")
def folder(fused_run: tuple[Config, RunFolder]) -> RunFolder:
    return fused_run[1]


@pytest.fixture(scope="module")
def recommender(folder: RunFolder) -> Iterator[Recommender]:
    with Recommender.load(folder.path, ranker="language_model") as recommender:
        yield recommender


@pytest.fixture(scope="module")
def fused(folder: RunFolder) -> Iterator[Recommender]:
    with Recommender.load(folder.path) as recommender:
        yield recommender


def test_the_fused_ranker_gives_the_scores_of_the_run(folder: RunFolder, fused: Recommender) -> None:
    scores = pl.read_parquet(folder.scores / "fused.parquet")
    p_yes = pl.read_parquet(folder.scores / "recurrent.parquet")
    tested = pl.read_parquet(folder.histories).filter(pl.col("split") == "test")["user_id"].to_list()
    for user in tested[:3]:
        mine = pl.col("user_id") == user
        ranking = fused.rank_user(user)
        expected = dict(scores.filter(mine).select("item_id", "score").iter_rows())
        assert {item.item_id: item.score for item in ranking.items} == pytest.approx(expected, abs=1e-4)
        order = [item.score for item in ranking.items]
        assert order == sorted(order, reverse=True)
        said = dict(p_yes.filter(mine).select("item_id", "score").iter_rows())
        assert {item.item_id: item.p_yes for item in ranking.items} == pytest.approx(said, abs=1e-5)


def test_items_given_as_text_are_ranked_by_their_texts(folder: RunFolder, fused: Recommender) -> None:
    items = pl.read_parquet(folder.items)
    row = pl.read_parquet(folder.histories).filter(pl.col("split") == "test").row(0, named=True)
    [text] = items.filter(pl.col("item_id") == row["target"]).drop("item_id").to_dicts()
    title, *_ = text
    other = dict.fromkeys(text, "") | {title: "Zyxwv qponm"}
    mixed = [row["target"], {"item_id": "same", **text}, {"item_id": "other", **other}]
    ranked = {item.item_id: item for item in fused.rank(history=row["history"], candidates=mixed).items}
    assert ranked["same"].p_yes == pytest.approx(ranked[row["target"]].p_yes, abs=1e-6)
    assert ranked["other"].p_yes != pytest.approx(ranked["same"].p_yes, abs=1e-6)
    texts_alone = fused.rank(history=[text], candidates=[other, text])
    assert {item.item_id for item in texts_alone.items} == {"#1", "#2"}
    assert texts_alone.items[0].score > texts_alone.items[1].score


def test_a_newcomer_gets_a_fused_ranking(fused: Recommender) -> None:
    ranking = fused.rank(history=[], k=5)
    assert all(0 < item.score < 1 for item in ranking.items)
    assert len({item.score for item in ranking.items}) > 1


def test_without_the_fused_ranker_p_yes_is_the_score(recommender: Recommender) -> None:
    ranking = recommender.rank(history=[], candidates=[{"title": "Tap"}, {"title": "Walnut bench"}])
    assert all(item.score == item.p_yes for item in ranking.items)


def test_a_ranker_that_is_not_there_is_told(folder: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fused, language_model, got 'fusion'"):
        Recommender.load(folder.path, ranker="fusion")
    shutil.copytree(folder.path, tmp_path / "run")
    copied = RunFolder(tmp_path / "run")
    assert save_bundle(load_run(copied.config), copied, fused=False)
    with pytest.raises(ConfigError, match="no fused ranker"):
        Recommender.load(tmp_path / "run", ranker="fused")
    assert Recommender.load(tmp_path / "run").rank(history=[], k=1).items


def test_a_user_of_the_run_gets_the_scores_of_the_run(folder: RunFolder, recommender: Recommender) -> None:
    scores = pl.read_parquet(folder.scores / "recurrent.parquet")
    user = scores.filter(split="test")["user_id"][0]
    expected = dict(scores.filter(pl.col("user_id") == user).select("item_id", "score").iter_rows())
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


def test_without_candidates_what_is_retrieved_is_ranked_without_the_history(
    folder: RunFolder, recommender: Recommender, fused: Recommender
) -> None:
    ids = pl.read_parquet(folder.items)["item_id"].to_list()
    history = ids[10:18:2]
    for ranker in (recommender, fused):
        ranking = ranker.rank(history=history)
        assert len({item.item_id for item in ranking.items} - {*history}) == len(ranking.items) == 20
        found = ranker.recommend(history, k=20, repeats="never")
        assert [item.item_id for item in ranking.items] == [item.item_id for item in found.items]
        [first, _] = ranker.rank_many([history, history[:1]], k=3).partition_by("user_id")
        assert first["item_id"].to_list() == [item.item_id for item in ranking.items[:3]]


@pytest.mark.parametrize("ranked_by", ["language_model", "fused"])
def test_after_an_append_a_user_is_served_by_the_new_history_and_summary(
    folder: RunFolder, tmp_path: Path, ranked_by: RankedBy
) -> None:
    shutil.copytree(folder.path, tmp_path / "run")
    row = pl.read_parquet(folder.histories).filter(pl.col("split") == "test").row(0, named=True)
    user, old = row["user_id"], row["history"]
    new = [item for item in pl.read_parquet(folder.items)["item_id"] if item not in old][:6]
    events = [(user, item, _LATER + at) for at, item in enumerate(new)]
    events += [("newcomer", item, _LATER + at) for at, item in enumerate(new[:3])]
    table = pl.DataFrame(events, schema=["user_id", "item_id", "time"], orient="row")
    table.sample(fraction=1, shuffle=True, seed=1).write_csv(tmp_path / "events.csv")
    before = Recommender.load(tmp_path / "run", ranker=ranked_by)
    served = before.rank_user(user)
    append_events(tmp_path / "run", tmp_path / "events.csv")
    after = Recommender.load(tmp_path / "run", ranker=ranked_by)
    frozen = [item.item_id for item in served.items]
    for recommender in (before, after):  # the one that was open serves what is new as well
        ranking = recommender.rank_user(user, candidates=frozen)
        wanted = recommender.rank(history=[*old, *new], candidates=frozen)
        assert ranking.summary == wanted.summary != served.summary
        assert [item.item_id for item in ranking.items] == [item.item_id for item in wanted.items]
        assert [item.score for item in ranking.items] == pytest.approx([item.score for item in wanted.items])
        stale = recommender.rank(history=old, candidates=frozen, summary=ranking.summary)
        assert [item.score for item in ranking.items] != pytest.approx([item.score for item in stale.items])
        newcomer = recommender.rank_user("newcomer", candidates=frozen)
        first = recommender.rank(history=new[:3], candidates=frozen)
        assert newcomer.summary == first.summary
        assert [item.score for item in newcomer.items] == pytest.approx([item.score for item in first.items])
    # Who was not appended to is served as before.
    other = pl.read_parquet(folder.histories).filter(pl.col("split") == "test")["user_id"][1]
    assert after.rank_user(other) == Recommender.load(folder.path, ranker=ranked_by).rank_user(other)


def test_many_are_ranked_as_one_by_one(folder: RunFolder, fused: Recommender) -> None:
    rows = pl.read_parquet(folder.histories).filter(pl.col("split") == "test").head(4)
    users = rows["user_id"].to_list()
    ids = pl.read_parquet(folder.items)["item_id"].to_list()
    ranked = fused.rank_many(rows.select("user_id"), k=3)
    assert ranked.columns == ["user_id", "rank", "item_id", "score", "p_yes"]
    alone = {user: fused.rank_user(user, k=3) for user in users}
    one_by_one = [
        (user, place, item.item_id, item.score, item.p_yes)
        for user, ranking in alone.items()
        for place, item in enumerate(ranking.items, start=1)
    ]
    expected = pl.DataFrame(one_by_one, schema=ranked.schema, orient="row")
    pl.testing.assert_frame_equal(ranked, expected, abs_tol=1e-6)
    # Histories and candidates of several lengths, some of them texts.
    cold = {"title": "Walnut bench", "category": "Garden"}
    histories = [*rows["history"].to_list()[:2], [], [cold, ids[0]]]
    offered = [ids[:3], ids[3:8], [ids[0], cold, ids[5]], [cold, ids[1], ids[2]]]
    schema = {"history": pl.Object, "candidates": pl.Object}
    ranked = fused.rank_many(pl.DataFrame({"history": histories, "candidates": offered}, schema=schema))
    for number, (history, candidates) in enumerate(zip(histories, offered, strict=True), start=1):
        ranking = fused.rank(history=history, candidates=candidates)
        mine = ranked.filter(pl.col("user_id") == f"#{number}")
        assert mine["item_id"].to_list() == [item.item_id for item in ranking.items]
        assert mine["score"].to_list() == pytest.approx([item.score for item in ranking.items], abs=1e-6)
    listed = fused.rank_many(histories, ids[:6], k=None)
    assert listed.group_by("user_id").len()["len"].to_list() == [6] * 4
    assert fused.rank_many([]).is_empty()


def test_events_appended_in_python_are_those_of_the_command(folder: RunFolder, tmp_path: Path) -> None:
    row = pl.read_parquet(folder.histories).row(0, named=True)
    items = [item for item in pl.read_parquet(folder.items)["item_id"] if item not in row["history"]][:3]
    events = [(who, item, _LATER + at) for who in (row["user_id"], "new") for at, item in enumerate(items)]
    frame = pl.DataFrame(events, schema=["user_id", "item_id", "time"], orient="row")
    frame.write_csv(tmp_path / "events.csv")
    found = []
    for way in ("command", "frame", "tuples"):
        copied = RunFolder(shutil.copytree(folder.path, tmp_path / way))
        with Recommender.load(copied.path) as recommender:
            if way == "command":
                append_events(copied.path, tmp_path / "events.csv")
            else:
                given = frame if way == "frame" else iter(events)
                written = recommender.append(given, max_calls=0)  # the keyphrase writer calls nobody
                assert [summary.user_id for summary in written] == [row["user_id"], "new"]
                with pytest.warns(
                    UserWarning, match="6 events: events that the run or an earlier append holds"
                ):
                    assert recommender.append(frame) == []
            found.append((recommender.rank_user(row["user_id"]), recommender.rank_user("new", items)))
            with pytest.raises(DataError, match="came after the run and has no frozen candidates"):
                recommender.rank_user("new")
            with pytest.raises(DataError, match="known item") as refused:
                recommender.append([("new", "nothing")])
            assert refused.value.findings
    assert found[0] == found[1] == found[2]


def test_a_bundle_with_a_file_of_users_serves_them(folder: RunFolder, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(folder.bundle, tmp_path / "bundle"))
    users = Path(shutil.copyfile(folder.users, tmp_path / "users.sqlite"))
    user = pl.read_parquet(folder.histories)["user_id"][3]
    with Recommender.load(bundle, users=users) as apart, Recommender.load(folder.path) as whole:
        assert apart.rank_user(user) == whole.rank_user(user)


def test_a_cap_holds_for_one_append(folder: RunFolder, tmp_path: Path) -> None:
    copied = RunFolder(shutil.copytree(folder.path, tmp_path / "run"))
    item, other = pl.read_parquet(folder.items)["item_id"].head(2)
    with counting_server() as server:
        writer = {"kind": "endpoint", "base_url": server.base_url, "model": "counted"}
        copied.config.write_text(dump(load(copied.config, {"summary.writer": writer})), encoding="utf-8")
        with Recommender.load(copied.path) as recommender:
            with pytest.raises(BudgetError):
                recommender.append([("one", item), ("two", other)], max_calls=1)
            with pytest.raises(DataError, match="no user 'one'"):
                recommender.rank_user("one")
            written = recommender.append([("one", item), ("two", other)])
            assert recommender.rank_user("one", [item]).summary == written[0].final.text
    assert server.asked.total() == 2


def test_a_given_summary_is_used(recommender: Recommender) -> None:
    ranking = recommender.rank(history=[], candidates=[{"title": "Tap"}], summary="Likes taps.")
    assert ranking.summary == "Likes taps."


def test_a_field_that_no_item_has_is_told(recommender: Recommender) -> None:
    with pytest.raises(DataError, match=r"'titel'"):
        recommender.rank(history=[], candidates=[{"titel": "Tap"}])


def test_a_recommender_that_is_closed_holds_no_store_and_can_be_used_again(
    folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[Store] = []
    opened, closed = Store.__init__, Store.close
    monkeypatch.setattr(Store, "__init__", lambda self, url: (opened(self, url), held.append(self))[0])
    monkeypatch.setattr(Store, "close", lambda self: (closed(self), held.remove(self))[0])
    shutil.copytree(folder.path, tmp_path / "run")
    with counting_server() as server:
        writer = {"kind": "endpoint", "base_url": server.base_url, "model": "counted"}
        config = load(tmp_path / "run" / "config.yaml", {"summary.writer": writer})
        (tmp_path / "run" / "config.yaml").write_text(dump(config), encoding="utf-8")
        history = pl.read_parquet(folder.histories)["history"][0].to_list()
        with warnings.catch_warnings(), Recommender.load(tmp_path / "run") as recommender:
            warnings.simplefilter("error", ResourceWarning)
            assert held == []
            first = recommender.rank(history=history, k=1)
            assert len(held) == 1
            recommender.close()
            assert held == []
            assert recommender.rank(history=history, k=1) == first
            assert len(held) == 1
        del recommender
        gc.collect()
        asked = server.asked.total()
    assert held == []
    assert first.summary.startswith("Likes things of kind")
    assert asked == len(server.asked)


def test_a_writer_that_cannot_be_opened_leaves_no_store_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Store] = []
    close = Store.close
    monkeypatch.setattr(Store, "close", lambda self: (close(self), closed.append(self))[0])
    writer = {"kind": "local", "model": str(tmp_path / "no-model")}
    config = small_config(tmp_path / "run", summary__writer=writer)
    with pytest.raises(ModelError):
        Summarizer(config, pl.DataFrame({"item_id": ["a"], "title": ["tea"]}))
    assert len(closed) == 1


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
